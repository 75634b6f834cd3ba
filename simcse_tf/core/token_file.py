"""The file that holds a server's token, as its operator and its clients name it."""

import os
import stat
from pathlib import Path

from simcse_tf.core.errors import UserError

LONGEST = 4096  # bytes; gRPC takes 8 KB of headers


def read_token(path: Path, flag: str) -> str:
    """Reads a token, without the white space around it.

    Args:
        path: The file. Not everyone on this machine may read it.
        flag: The flag that named it, for the messages.

    Returns:
        Printable ASCII without spaces, as an HTTP header can hold it.

    Raises:
        UserError: The file cannot be read, is open to everyone, or holds no token.

    Example:
    ```python
    token = read_token(Path("token.txt"), "--token_file")
    ```
    """
    try:
        # Does not wait for a pipe that nobody writes to.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(LONGEST + 1) if stat.S_ISREG(mode) else b""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{flag}: cannot read {path}: {reason}") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{flag}: expected a file, received {path}")
    if mode & stat.S_IROTH:
        raise UserError(
            f"{flag}: every user of this machine can read {path} (mode "
            f"{stat.S_IMODE(mode):04o}): chmod 600, or in Kubernetes defaultMode: 0400"
        )
    token = content.decode("ascii", "replace").strip()
    wrong = not token.isascii() or not token.isprintable() or " " in token
    if not token or wrong or len(content) > LONGEST:
        raise UserError(f"{flag}: expected one token in ASCII in {path}")
    return token
