"""JSON: read with an answer to what is wrong, written whole.

Python's own reader takes more than JSON (`NaN`), keeps the last of a key that is there
twice, and has limits of its own that end in other exceptions. What a user or a stranger
wrote goes through `parse_json`.
"""

import json
import math
import os
import re
from collections.abc import Sequence
from typing import Any

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import read_file, shown_path

# The largest files of the field are vocabularies: XLM-V's has 60 MB.
MAX_BYTES = 2**27
# Keras nests a model's settings some ten deep.
MAX_DEPTH = 64
# Tokenizers have lengths of 10^30.
_MAX_DIGITS = 40
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_SHOWN = 200


class NotJson(UserError):
    """What was read is no JSON at all.

    Example:

    ```python
    try:
        value = parse_json(text, "--set")
    except NotJson:
        value = text
    ```
    """


def parse_json(text: str | bytes, source: str, half_pairs: bool = False) -> Any:
    """Reads JSON.

    Args:
        text: JSON, as UTF-8 if it is bytes. A byte order mark is skipped.
        source: string. What a message calls it.
        half_pairs: bool. Whether strings may hold half a surrogate pair, which no UTF-8
            can hold. Defaults to `False`.

    Returns:
        What it holds. Numbers are finite.

    Raises:
        NotJson: If it is no JSON.
        UserError: If it is JSON that nobody means: a key twice in one object, a number
            of hundreds of digits, or nested deeper than `MAX_DEPTH`.

    Example:

    ```python
    parse_json('{"epochs": 3}', "config.json")  # {"epochs": 3}
    ```
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        text = text.removeprefix("\ufeff")
        values = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise NotJson(f"{source} is not UTF-8 text: {error.reason}") from None
    except json.JSONDecodeError as error:
        raise NotJson(
            f"{source} is not valid JSON: {error.msg} at line {error.lineno}, column "
            f"{error.colno}"
        ) from None
    except RecursionError:
        raise _too_deep(source) from None
    except _Refused as refused:
        raise refused.error(f"{source}: {refused}") from None
    _check_depth(values, source)
    if not half_pairs and _HALF_A_PAIR.search(text):
        _check_unicode(values, source)
    return values


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file.

    Args:
        path: The file: a regular one of at most `MAX_BYTES`.

    Returns:
        What it holds.

    Raises:
        UserError: If it cannot be read or is no JSON; see `parse_json`.

    Example:

    ```python
    read_json("config.json")["output_dir"]
    ```
    """
    return parse_json(read_file(path, MAX_BYTES), shown_path(path))


def write_json(path: str | os.PathLike[str], values: Any) -> None:
    """Writes a JSON file, indented; it is at no moment there in part.

    Args:
        path: The file to write. Its parents are made.
        values: What JSON can hold; see `to_json`.

    Raises:
        OSError: If it cannot be written.

    Example:

    ```python
    write_json("scores.json", {"avg": 81.6})
    ```
    """
    with atomic_write(path) as temporary:
        temporary.write_text(to_json(values, indent=2) + "\n", "utf-8")


def to_json(values: Any, indent: int | None = None) -> str:
    """JSON text of values; NaN and infinities, which JSON does not have, are `null`.

    Args:
        values: What JSON can hold.
        indent: Optional int. As for `json.dumps`. Defaults to `None`: one line.

    Example:

    ```python
    to_json({"step": 3, "loss": math.nan})  # '{"step": 3, "loss": null}'
    ```
    """
    return json.dumps(_finite_or_none(values), indent=indent, allow_nan=False)


def _finite_or_none(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _finite_or_none(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite_or_none(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def shown(value: Any) -> str:
    """A value as JSON for a message: in one line, cut if it is long.

    Example:

    ```python
    shown({"epochs": [1] * 1000})  # '{"epochs": [1, 1, 1, ...'
    ```
    """
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return shortened(text)


def shortened(text: str) -> str:
    """A text for a message: cut if it is long.

    Example:

    ```python
    shortened("x" * 1000)  # "xxx..."
    ```
    """
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


class _Refused(Exception):
    """Why the parser stopped, and what it is to its caller."""

    def __init__(self, message: str, error: type[UserError] = UserError):
        super().__init__(message)
        self.error = error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"the key {shown(key)} is there twice: remove one")
            seen.add(key)
    return values


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise _Refused(f"a number of {len(digits)} digits: {digits[:10]}...")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits)
    if value - value:
        raise _Refused(f"the number {digits[:20]} is too large")
    return value


def _constant(name: str) -> None:
    raise _Refused(f"not valid JSON: {name} is no number in JSON", NotJson)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_whole,
    parse_float=_real,
    parse_constant=_constant,
)


def _check_depth(values: Any, source: str) -> None:
    # From Python 3.12 on the parser itself goes far deeper than what reads the result.
    level: Sequence[Any] = [values]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise _too_deep(source)


def _check_unicode(values: Any, source: str) -> None:
    try:
        json.dumps(values, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(
            f"{source}: a string holds half a surrogate pair, which is no Unicode"
        ) from None


def _too_deep(source: str) -> UserError:
    return UserError(f"{source}: nested deeper than {MAX_DEPTH} levels")
