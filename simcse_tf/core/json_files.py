"""JSON files: read with an answer to what is wrong, written whole."""

import json
import os
from pathlib import Path
from typing import Any

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.errors import UserError


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file.

    Args:
        path: The file.

    Returns:
        What it holds.

    Raises:
        UserError: If it cannot be read or is no JSON.

    Example:

    ```python
    read_json("config.json")["output_dir"]
    ```
    """
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason}") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, "
            f"column {error.colno}"
        ) from None


def write_json(path: str | os.PathLike[str], values: Any) -> None:
    """Writes a JSON file, indented; it is at no moment there in part.

    Args:
        path: The file to write. Its parents are made.
        values: What JSON can hold.

    Raises:
        OSError: If it cannot be written.

    Example:

    ```python
    write_json("scores.json", {"avg": 81.6})
    ```
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
