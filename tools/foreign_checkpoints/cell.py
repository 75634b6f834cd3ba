"""One checkpoint of the matrix: how it is written, and what it is compared with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from foreign_checkpoints.models import write_sentence_transformer

# Arguments that are given as functions: each checkpoint gets modules and a tokenizer of
# its own.
_MADE = ("between", "after", "tokenizer")

Write = Callable[[Path], None]
Read = Callable[[Path, list[str]], Any]


@dataclass(frozen=True)
class Cell:
    """One checkpoint of the matrix.

    Attributes:
        name: string. Says what it varies.
        write: Writes the directory.
        unlike: string. The cell from which it differs in one switch: at least one
            sentence's embedding must be another. Empty for none.
        like: string. The cell whose embeddings it must have. Empty for none.
        read: `read(directory, sentences)` returns the embeddings, float32
            `[n, dim]`. `None` stands for sentence-transformers.
        arguments: What `SimCSE.from_preset` is to get beside the directory.
        loads: bool. Whether the libraries themselves read it at all.
        versions: The major versions of sentence-transformers that write it.
        least: float. How far from `unlike` it must at least be, as a distance of unit
            vectors.
    """

    name: str
    write: Write
    unlike: str = ""
    like: str = ""
    read: Read | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    loads: bool = True
    versions: tuple[int, ...] = (6,)
    least: float = 0.05


def modules(*args: Any, **settings: Any) -> Write:
    """Writes with sentence-transformers: see `write_sentence_transformer`."""
    return partial(_write_modules, args, settings)


def _write_modules(
    args: tuple[Any, ...], settings: dict[str, Any], directory: Path
) -> None:
    made = {k: v() if k in _MADE else v for k, v in settings.items()}
    write_sentence_transformer(directory, *args, **made)


def edited(write: Write, *edits: Write) -> Write:
    """Writes a directory, and edits it."""

    def both(directory: Path) -> None:
        write(directory)
        for edit in edits:
            edit(directory)

    return both
