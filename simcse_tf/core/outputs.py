"""Files that a flag of a command names to be written."""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import shown_path

_Path = str | os.PathLike[str]

# Linux' most bytes of a file's name.
_NAME_BYTES = 255


def output_file(flag: str, path: _Path, inputs: Iterable[_Path | None] = ()) -> Path:
    """Where a file is to be written; asked before work that takes long.

    Args:
        flag: string. The flag that names the file, for messages.
        path: The file. Need not be there, nor its directory.
        inputs: What the command reads. The file must be none of these files, and
            none that is in one of these directories. `None`, and a name of what is
            not on this disk, stand for nothing.

    Returns:
        The file that `path` leads to: a link stays, and what it leads to is written.

    Raises:
        UserError: If it is no regular file, what is read would be lost, or there is
            no place to write it.

    Example:

    ```python
    output_file("--json", "scores/out.json", inputs=["runs/mine/best"])
    ```
    """
    try:
        file = Path(path).resolve()
        about = _about(file)
    except (OSError, ValueError, RuntimeError) as error:
        # A NUL, half a surrogate pair, a link to itself.
        raise _cannot(flag, path, why_not_written(error) or str(error)) from None
    _check_kind(flag, path, about)
    for each in inputs:
        if each is not None and about is not None:
            _check_apart(flag, path, file, about, Path(each))
    _check_place(flag, path, file)
    return file


def output_directory(flag: str, path: _Path) -> Path:
    """Where files are to be written; asked before work that takes long.

    Args:
        flag: string. The flag that names the directory, for messages.
        path: The directory. Need not be there.

    Returns:
        The directory that `path` leads to.

    Raises:
        UserError: If it is something else, or there is no place to write it.

    Example:

    ```python
    output_directory("--output", "served")
    ```
    """
    try:
        directory = Path(path).resolve()
        os.fsencode(directory)
        if os.path.lexists(path) and not directory.is_dir():
            raise _cannot(flag, path, "it is not a directory")
        _check_place(flag, path, directory / "1")
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise _cannot(flag, path, why_not_written(error) or str(error)) from None
    return directory


@contextmanager
def writing_output(flag: str, path: _Path) -> Iterator[None]:
    """Reports in one line why something could not be written.

    Args:
        flag: string. The flag that names it.
        path: What the block writes.

    Raises:
        UserError: If the block raises an `OSError`, or TensorFlow's error of a file.

    Example:

    ```python
    with writing_output("--json", path):
        write_json(path, scores)
    ```
    """
    try:
        yield
    except Exception as error:
        if (reason := why_not_written(error)) is None:
            raise
        raise _cannot(flag, path, reason) from None


def why_not_written(error: Exception) -> str | None:
    """What a failure to write a file says, in a few words; `None` if it is none.

    Args:
        error: An exception of Python, HDF5 or TensorFlow.

    Example:

    ```python
    why_not_written(OSError(28, "..."))  # "No space left on device"
    ```
    """
    if isinstance(error, OSError):
        # HDF5 puts much more into its message.
        return os.strerror(error.errno) if error.errno else str(error)
    # It is imported already where it can have raised this.
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(error, tensorflow.errors.OpError):
        # "{{operation}} file; reason [Op:name]", and then what it tried to do.
        reason = str(error).split("\n")[0].rpartition("; ")[2]
        return reason.partition(" [Op:")[0]
    return None


def _about(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _check_kind(flag: str, path: _Path, about: os.stat_result | None) -> None:
    if about is None:
        return
    if stat.S_ISDIR(about.st_mode):
        raise _cannot(flag, path, "it is a directory")
    if not stat.S_ISREG(about.st_mode):
        raise _cannot(flag, path, "it is a device or a pipe, and no file")
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and _is_open_as(about, stream.fileno()):
            raise _cannot(flag, path, "what the command prints goes there")


def _is_open_as(about: os.stat_result, descriptor: int) -> bool:
    try:
        return os.path.samestat(about, os.fstat(descriptor))
    except OSError:
        return False


def _check_apart(
    flag: str, path: _Path, file: Path, about: os.stat_result, read: Path
) -> None:
    try:
        is_same = os.path.samestat(about, read.stat())
        is_inside = file.is_relative_to(read.resolve())
    except (OSError, ValueError, RuntimeError):
        return
    if is_same:
        raise _cannot(flag, path, f"it is {shown_path(read)}, which is read")
    if is_inside:
        raise _cannot(flag, path, f"it is a file of {shown_path(read)}, which is read")


def _check_place(flag: str, path: _Path, file: Path) -> None:
    if not file.name:
        raise _cannot(flag, path, "it is a directory")
    for part in file.parts:
        if (length := len(os.fsencode(part))) > _NAME_BYTES:
            raise _cannot(
                flag,
                path,
                f"a name has {length} bytes, and may have at most {_NAME_BYTES}",
            )
    there = next(parent for parent in file.parents if os.path.exists(parent))
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise _cannot(flag, path, f"{there} is not a writable directory")


def _cannot(flag: str, path: _Path, reason: str) -> UserError:
    return UserError(f"{flag}: cannot write {shown_path(path)}: {reason}")
