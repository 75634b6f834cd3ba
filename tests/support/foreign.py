"""The checkpoints of `foreign.tar.xz`: see `tools/make_foreign_checkpoints.py`."""

import json
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ARCHIVE = Path(__file__).with_name("foreign.tar.xz")


@dataclass(frozen=True)
class Foreign:
    """The unpacked checkpoints.

    Attributes:
        directory: Where they are.
        sentences: What they embedded.
        cells: Dictionary of names and `{"directory": ..., "arguments": ...}`.
        embeddings: Dictionary of names and what the field's libraries made of the
            sentences; without those that they do not read either.
    """

    directory: Path
    sentences: list[str]
    cells: dict[str, dict[str, Any]]
    embeddings: dict[str, np.ndarray]

    def arguments(self, name: str) -> dict[str, Any]:
        """What `SimCSE.from_preset` gets for a checkpoint."""
        cell = self.cells[name]
        return {"preset": str(self.directory / cell["directory"]), **cell["arguments"]}


@cache
def names() -> list[str]:
    """The names of all checkpoints, without unpacking them."""
    with tarfile.open(ARCHIVE) as tar:
        return list(json.load(tar.extractfile("index.json"))["cells"])


def unpack(directory: Path) -> Foreign:
    """Unpacks them into a directory."""
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(directory, filter="data")
    index = json.loads((directory / "index.json").read_text("utf-8"))
    with np.load(directory / "embeddings.npz") as embeddings:
        return Foreign(directory, index["sentences"], index["cells"], dict(embeddings))
