"""What a config's `data.train` names: files, globs and TFDS data sets, with weights."""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shown
from simcse_tf.core.regular_files import shown_path

TFDS_SCHEME = "tfds:"
# One name, or several; a mapping has a `path` and may have a `weight`.
Train: TypeAlias = str | Sequence[str | Mapping[str, Any]]

_LEAST, _MOST = 0.001, 1000


class Named(NamedTuple):
    """One entry of a `data.train`.

    Attributes:
        path: string. A file, a glob or `tfds:NAME`.
        weight: float. How often an epoch passes through it.

    Example:

    ```python
    Named("nli/*.csv", weight=2)
    ```
    """

    path: str
    weight: float = 1


def entries(train: Train) -> list[Named]:
    """The entries of a `data.train`, as they are written.

    Raises:
        ValueError: If it is something else.

    Example:

    ```python
    entries(["a.csv", {"path": "b.csv", "weight": 2}])
    # [Named("a.csv", 1), Named("b.csv", 2)]
    ```
    """
    if isinstance(train, str):
        return [_entry(train)]
    if not isinstance(train, list | tuple) or not train:
        raise ValueError(
            'expected a path, or a list of paths and of {"path": ..., "weight": ...}, '
            f"received {shown(train)}"
        )
    return [_entry(value) for value in train]


def _entry(value: Any) -> Named:
    if isinstance(value, Mapping) and {"path"} <= value.keys() <= {"path", "weight"}:
        path, weight = value["path"], value.get("weight", 1)
    else:
        path, weight = value, 1
    if not isinstance(path, str) or not path:
        raise ValueError(
            'expected a path or {"path": ..., "weight": ...}, received '
            f"{shown(value)}"
        )
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not _LEAST <= weight <= _MOST:
        raise ValueError(
            f"expected a weight of {_LEAST} to {_MOST} for {path}, received "
            f"{shown(weight)}"
        )
    return Named(path, weight)


def shown_train(train: Train) -> str:
    """A `data.train` as text.

    Example:

    ```python
    shown_train(["a.csv", {"path": "b.csv", "weight": 2}])  # "a.csv, b.csv (weight 2)"
    ```
    """
    return ", ".join(
        path if weight == 1 else f"{path} (weight {weight:g})"
        for path, weight in entries(train)
    )


def named_sources(train: Train) -> list[Named]:
    """The files and data sets that a `data.train` names, its globs expanded.

    A glob's files come sorted by name. A name that is a file's own is no glob.

    Raises:
        UserError: If a glob matches no file, or something is named twice.

    Example:

    ```python
    named_sources(["nli/*.csv"])  # [Named("nli/a.csv", 1), Named("nli/b.csv", 1)]
    ```
    """
    found = [
        Named(path, entry.weight)
        for entry in entries(train)
        for path in _expanded(entry.path)
    ]
    _check_each_once(named.path for named in found)
    return found


def _expanded(path: str) -> Iterator[str]:
    named = path.startswith(TFDS_SCHEME) or os.path.lexists(path)
    if named or not glob.has_magic(path):
        yield path
        return
    files = [
        file
        for file in sorted(glob.iglob(path, recursive=True))
        if not os.path.isdir(file)
    ]
    if not files:
        raise UserError(f"data.train: {shown_path(path)} matches no file")
    yield from files


def _check_each_once(paths: Iterable[str]) -> None:
    seen: dict[Any, str] = {}
    for path in paths:
        identity = _identity(path)
        if identity in seen:
            raise UserError(
                f"data.train names the same data twice, as {seen[identity]} and {path}:"
                " name them once, with a weight if an epoch is to see them more often"
            )
        seen[identity] = path


def _identity(path: str) -> Any:
    if path.startswith(TFDS_SCHEME):
        return path
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return path
    return found.st_dev, found.st_ino
