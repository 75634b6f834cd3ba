"""Ways in which a copy of a model's directory may be damaged."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


class Damage(NamedTuple):
    """A file of the directory, and what is done to it."""

    file: str
    name: str
    do: Callable[[Path], None]

    def copy(self, source: Path, target: Path) -> Path:
        """A damaged copy of the directory."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        self.do(target / self.file)
        return target


def damages(source: Path, other: Path, count: int, bits: bool) -> list[Damage]:
    """So many ways to damage a directory, the same ones each time.

    Args:
        source: The directory.
        other: One of another model in the same format.
        count: How many.
        bits: Whether bits are flipped anywhere, and files are swapped for another
            model's. Else bits are flipped where a file of weights begins.
    """
    chance = random.Random(f"{source.name} {count}")
    names = sorted(
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".md"
    )
    found = [
        Damage(name, kind, do)
        for name in names
        for kind, do in _damages(source, other, name, chance, bits)
    ]
    return chance.sample(found, count)


def _damages(
    source: Path, other: Path, name: str, chance: random.Random, bits: bool
) -> Iterator[tuple[str, Callable[[Path], None]]]:
    content = (source / name).read_bytes()
    yield "is missing", Path.unlink
    for kind, make in (
        ("is a directory", Path.mkdir),
        ("is a pipe", os.mkfifo),
        ("is a link to nothing", lambda path: path.symlink_to("nowhere")),
        ("is a link to itself", lambda path: path.symlink_to(path.name)),
    ):
        yield kind, lambda path, make=make: (path.unlink(), make(path))
    for kind, damaged in _contents(content, name, chance, bits):
        yield kind, lambda path, damaged=damaged: path.write_bytes(damaged)
    if bits and (other / name).is_file() and (other / name).read_bytes() != content:
        yield "is another model's", lambda path: shutil.copy(other / name, path)


def _contents(
    content: bytes, name: str, chance: random.Random, bits: bool
) -> Iterator[tuple[str, bytes]]:
    yield "is empty", b""
    yield "is cut in half", content[: len(content) // 2]
    yield "has lost its end", content[: -max(1, len(content) // 50)]
    yield "is a pointer of Git LFS", POINTER
    yield "is zeros", bytes(len(content))
    yield "is noise", chance.randbytes(len(content))
    lines = content.splitlines(True)
    if name.endswith((".txt", ".json")) and len(lines) > 4:
        yield "has half of its lines", b"".join(lines[: len(lines) // 2])
    is_binary = name.endswith((".h5", ".safetensors"))
    flips = len(content) if bits else 8 * is_binary
    for place in chance.sample(range(flips), min(flips, 6)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        yield f"has another bit in byte {place}", bytes(damaged)
    if name.endswith(".json"):
        for text in ("{}", "[]", "null", "NaN", "[" * 10**5, "1" * 5000):
            yield f"is {text[:9]}", text.encode()
        yield "is UTF-16", content.decode().encode("utf-16")
        values = json.loads(content)
        if isinstance(values, dict) and values:
            key = json.dumps(chance.choice(sorted(values)))
            yield "has a key twice", b"{%s: 0, " % key.encode() + content.lstrip()[1:]
