"""faiss, and the files that it reads and writes."""

from __future__ import annotations

import errno
import os
from typing import Any


def faiss_module() -> Any:
    """The module `faiss`, imported when it is first asked for.

    Example:

    ```python
    faiss_module().IndexFlatIP(384)
    ```
    """
    # Its threads wait by trying again and again, which on a machine that is shared
    # takes others' time and its own. Read when faiss is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import faiss

    return faiss


def read_faiss(path: str | os.PathLike[str]) -> Any:
    """Reads an index of faiss to memory.

    Raises:
        OSError: If it cannot be read.

    Example:

    ```python
    read_faiss("learned.faiss").ntotal  # 0
    ```
    """
    try:
        return faiss_module().read_index(os.fspath(path))
    except RuntimeError as error:
        raise OSError(errno.EIO, f"faiss: {error}", os.fspath(path)) from None


def write_faiss(index: Any, path: str | os.PathLike[str]) -> None:
    """Writes an index of faiss to a file.

    Raises:
        OSError: If it cannot be written.

    Example:

    ```python
    write_faiss(index, "candidates.faiss")
    ```
    """
    try:
        faiss_module().write_index(index, os.fspath(path))
    except RuntimeError as error:
        raise OSError(errno.EIO, f"faiss: {error}", os.fspath(path)) from None
