"""gRPC's own settings of the server: what a connection and a message may cost."""

from simcse_tf.core.errors import UserError

Arguments = dict[str, int | str]

# What a request may hold that is not read yet. The usual one fits, so that it needs no
# further round trip.
LOOKAHEAD_BYTES = 32 * 2**10

# An idle connection costs about 15 KB.
MOST_CONNECTIONS = 16_384


def with_defaults(given: Arguments, connections: int = MOST_CONNECTIONS) -> Arguments:
    """Adds the server's own arguments to those of the operator.

    Args:
        given: What `parse` returned; they override the others.
        connections: How many there are descriptors for.

    Example:
    ```python
    with_defaults({"grpc.max_receive_message_length": -1})
    ```
    """
    return {
        # 64 texts of 128 KB. It holds for what comes out of a compressed message, too.
        "grpc.max_receive_message_length": 8 * 2**20,
        "grpc.max_send_message_length": -1,
        # Otherwise a client could have any number of requests unread, and gRPC would
        # read ahead of the server.
        "grpc.max_concurrent_streams": 128,
        "grpc.http2.lookahead_bytes": LOOKAHEAD_BYTES,
        "grpc.http2.bdp_probe": 0,
        # Otherwise gRPC refuses streams of a client that keeps to the number above,
        # because earlier ones are not cleared away yet.
        "grpc.http2.max_deallocating_streams": 1000,
        # Beyond these gRPC cancels what the server has not seen yet, by chance. A burst
        # fits, and `admission` decides with a code that says what is wrong.
        "grpc.server.max_pending_requests": 2048,
        "grpc.server.max_pending_requests_hard_limit": 4096,
        # Who is silent leaves; clients connect again when they have a request.
        "grpc.server_handshake_timeout_ms": 10_000,
        "grpc.max_connection_idle_ms": 60_000,
        # Who has gone without a word, too.
        "grpc.keepalive_time_ms": 60_000,
        "grpc.keepalive_timeout_ms": 20_000,
        "grpc.max_allowed_incoming_connections": min(connections, MOST_CONNECTIONS),
        # Otherwise a second server on the same port would get half of the requests.
        "grpc.so_reuseport": 0,
        **given,
    }


def parse(text: str) -> Arguments:
    """Parses `--grpc_channel_arguments` as TF Serving does.

    Args:
        text: `NAME=VALUE`, separated by commas; a value that is a number is one.

    Raises:
        UserError: A part is something else.

    Example:
    ```python
    parse("grpc.max_connection_age_ms=30000")  # {"grpc.max_connection_age_ms": 30000}
    ```
    """
    arguments: Arguments = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if not (name.startswith("grpc.") and value):
            raise UserError(
                f"--grpc_channel_arguments: expected grpc.NAME=VALUE, received {part!r}"
            )
        arguments[name] = _number(value)
    return arguments


def _number(value: str) -> int | str:
    try:
        number = int(value)
    except ValueError:
        return value
    if not -(2**31) <= number < 2**31:
        raise UserError(
            f"--grpc_channel_arguments: expected numbers of 32 bits, received {value}"
        )
    return number
