"""Text that others wrote, made safe to show on a terminal."""

import re

# Control characters, among them those that begin a terminal's escape sequences, and
# characters that end a line or turn its direction around, and surrogates, which no
# terminal can be sent. Tabs and line feeds stay.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Characters of a message's line: enough for every one of ours.
LONGEST = 1000
_CUT = " [...] "


def printable(text: str, longest: int | None = None) -> str:
    r"""Text in which control characters stand as escapes, such as `\x1b`.

    Args:
        text: string. Its line feeds and tabs stay.
        longest: Optional int. Characters of it at most, before the rest is left out.
            Defaults to `None`: all.

    Example:

    ```python
    print(printable("\x1b[2Jgone"))  # \x1b[2Jgone
    ```
    """
    if longest is not None and len(text) > longest:
        text = text[:longest] + "..."
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def one_line(text: str, longest: int = LONGEST) -> str:
    r"""A message as one line for a terminal, its middle cut out if it is too long.

    Args:
        text: string.
        longest: int. Characters at most. Defaults to `1000`.

    Example:

    ```python
    one_line("expected a number,\n  received 1" + "0" * 5000)
    ```
    """
    line = printable(" ".join(text.split()))
    if len(line) <= longest:
        return line
    half = (longest - len(_CUT)) // 2
    return line[:half] + _CUT + line[-half:]
