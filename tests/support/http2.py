"""Frames of HTTP/2, right and wrong ones, for tests that speak gRPC byte by byte."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS_TYPE, PING = 0, 1, 3, 4, 6
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + payload


def fields(*pairs: tuple[bytes, bytes]) -> bytes:
    """Headers as HPACK has them without its tables; each less than 127 bytes."""
    return b"".join(
        b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in pairs
    )


SETTINGS = frame(SETTINGS_TYPE, 0, 0)
HELLO = PREFACE + SETTINGS + frame(SETTINGS_TYPE, ACK, 0)


def call(
    stream: int, path: bytes, *more: tuple[bytes, bytes], end: bool = False
) -> bytes:
    """The headers of a gRPC request."""
    usual = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"x"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    flags = END_HEADERS | (END_STREAM if end else 0)
    return frame(HEADERS, flags, stream, fields(*usual, *more))


def message(
    stream: int, data: bytes, size: int | None = None, end: bool = False
) -> bytes:
    """A message of gRPC, or its beginning, where `size` is that of the whole."""
    head = b"\0" + struct.pack(">I", len(data) if size is None else size)
    return frame(DATA, END_STREAM if end else 0, stream, head + data)
