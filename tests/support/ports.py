"""Ports of this machine."""

import socket


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        return listener.getsockname()[1]
