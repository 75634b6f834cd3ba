"""Whether a preset of ours is the one that was saved: each file's hash in its card."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from simcse_tf.core.contents import sha256
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json
from simcse_tf.core.regular_files import is_there
from simcse_tf.version import __version__

CARD = "simcse.json"
FILES_KEY = "files"

_METADATA = "metadata.json"
_MARK = "simcse_tf"
# What a loader would read if it were there. Other files beside them are no harm.
_READ = ("config.json", "tokenizer.json", "head.safetensors", "*.weights.*")
_READ_BELOW = "assets"


def mark(directory: Path) -> None:
    """Notes in KerasHub's metadata that a card belongs to a preset.

    A directory that lost its card is so told from one that KerasHub wrote.

    Raises:
        OSError: If the file cannot be written.

    Example:

    ```python
    mark(Path("models/mine"))
    ```
    """
    path = directory / _METADATA
    metadata = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**metadata, _MARK: __version__}, indent=4), "utf-8")


def is_marked(directory: Path) -> bool:
    """Whether `mark` was called for a preset.

    Raises:
        UserError: If its metadata cannot be read.

    Example:

    ```python
    is_marked(Path("models/mine"))  # True
    ```
    """
    path = directory / _METADATA
    metadata = read_json(path) if is_there(path) else {}
    return isinstance(metadata, dict) and _MARK in metadata


def hashes(directory: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """What the card says of the files of a preset that was just written.

    Args:
        directory: The preset's directory, whole but for the card.
        settings: Dictionary. What the card holds beside this.

    Returns:
        Dictionary of SHA-256 by the file's path in the directory, and by `CARD` that of
        the settings.

    Raises:
        OSError: If a file cannot be read.

    Example:

    ```python
    hashes(Path("models/mine"), {"pooling": "avg"})["config.json"]
    ```
    """
    files = [path for path in directory.rglob("*") if path.is_file()]
    names = sorted(path.relative_to(directory).as_posix() for path in files)
    found = {name: sha256(directory / name) for name in names if name != CARD}
    return {**found, CARD: _hash_of(settings)}


def check(directory: Path, settings: Mapping[str, Any], files: Any) -> None:
    """Checks that the files of a preset are those that were saved.

    Args:
        directory: The preset's directory.
        settings: Dictionary. What its card holds beside `files`.
        files: What the card says of the files.

    Raises:
        UserError: If a file is missing or another one, the settings were changed, or
            there is a file that was not saved and would be read.

    Example:

    ```python
    check(Path("models/mine"), settings, files)
    ```
    """
    card = directory / CARD
    if not isinstance(files, dict) or not files.keys() >= {CARD, "config.json"}:
        raise UserError(
            f"{card}: {FILES_KEY} must hold the hashes of the files that were saved: "
            "copy the directory again"
        )
    if files[CARD] != _hash_of(settings):
        raise UserError(
            f"{card} was changed after it was saved: restore it, and give other "
            "settings as arguments (--pooling, --max-length); a change that shall stay "
            f"needs the key {FILES_KEY} removed"
        )
    for name in files.keys() - {CARD}:
        _check(directory, name, files[name])
    for path in _that_are_read(directory):
        name = path.relative_to(directory).as_posix()
        if name not in files:
            raise UserError(
                f"{path} is not one of the files that were saved: remove it, or copy "
                "the directory again"
            )


def _check(directory: Path, name: str, expected: Any) -> None:
    path = directory / name
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise UserError(f"{directory / CARD} names {name!r}: expected files beside it")
    if not is_there(path):
        raise UserError(f"{path} is missing: copy the directory again")
    if sha256(path) != expected:
        raise UserError(
            f"{path} is not the file that was saved: it is damaged or another model's; "
            "copy the directory again"
        )


def _that_are_read(directory: Path) -> list[Path]:
    found = [path for pattern in _READ for path in directory.glob(pattern)]
    below = (directory / _READ_BELOW).rglob("*")
    return found + [path for path in below if not path.is_dir()]


def _hash_of(settings: Mapping[str, Any]) -> str:
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
