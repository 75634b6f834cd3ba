"""What the value of a flag has to be: functions for `argparse`'s `type`.

Example:

```python
parser.add_argument("--port", type=port)
```
"""

import argparse
import sys


def port(text: str) -> int:
    """A port, or 0."""
    return _number(text, "0 to 65535", 65535)


def count(text: str) -> int:
    """A whole number, or 0."""
    return _number(text, "0 or more")


def positive(text: str) -> int:
    """A whole number above 0."""
    if text.isascii() and text.isdecimal() and not text.strip("0"):
        raise argparse.ArgumentTypeError(f"expected 1 or more, received {text!r}")
    return _number(text, "1 or more")


def seconds(text: str) -> float:
    """A length of time, or 0."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected 0 or more, received {text!r}")
    return number


def boolean(text: str) -> bool:
    """`true` or `false`."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, received {text!r}")
    return text.lower() == "true"


def target(text: str) -> str:
    """The address of a server: `HOST:PORT`."""
    host, _, number = text.rpartition(":")
    in_range = number.isascii() and number.isdecimal() and int(number) <= 65535
    if not (host and in_range):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, received {text!r}")
    return text


def _number(text: str, expected: str, most: int = sys.maxsize) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= most):
        raise argparse.ArgumentTypeError(f"expected {expected}, received {text!r}")
    return int(text)
