"""Writing files and directories whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_directory(
    path: str | os.PathLike[str], replace: bool = True
) -> Iterator[Path]:
    """Yields a temporary sibling that takes the place of `path` at the end.

    If the block fails, `path` is as it was before and nothing else is left.

    Args:
        path: The directory to write. Its parents are made.
        replace: bool. Whether a directory already at `path` is replaced. Defaults
            to `True`.

    Raises:
        OSError: If it cannot be written, or is there and not to be replaced.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.new-", dir=final.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if replace:
            _step_aside(final)
        temporary.rename(final)
        shutil.rmtree(_old(final), ignore_errors=True)
    except BaseException:
        _come_back(final)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary sibling file name that is renamed to `path` at the end.

    Args:
        path: The file to write. Its parents are made.

    Raises:
        OSError: If it cannot be written.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".{final.name}.new-{os.getpid()}"
    try:
        yield temporary
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def _old(final: Path) -> Path:
    return final.parent / f".{final.name}.old"


def _step_aside(final: Path) -> None:
    # A full directory cannot be renamed over.
    if final.exists():
        shutil.rmtree(_old(final), ignore_errors=True)
        final.rename(_old(final))


def _come_back(final: Path) -> None:
    if _old(final).exists() and not final.exists():
        _old(final).rename(final)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
