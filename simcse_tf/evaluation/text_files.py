"""What the readers of SentEval's files share: lines, columns, and where they break."""

import codecs
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from simcse_tf.core.errors import UserError


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a file without line breaks and byte order mark.

    Args:
        path: The file.
        encoding: string. Defaults to `"utf-8"`.

    Raises:
        UserError: It cannot be read, or a line is not of that encoding.

    Example:

    ```python
    list(read_lines(Path("sts-test.csv")))
    ```
    """
    try:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    # Only a newline ends a line: `str.splitlines` would also cut at the line
    # separators that occur inside sentences, and shift sentences against labels.
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            yield line.removesuffix(b"\r").decode(encoding)
        except UnicodeDecodeError as error:
            name = encoding.upper()
            raise UserError(f"{path}, line {number}: not {name} ({error})") from error


def columns(line: str, width: int, path: Path, number: int) -> list[str]:
    """The tab-separated columns of a line, quotes being text like any other.

    Args:
        line: string.
        width: int. The fewest columns there must be.
        path: The file, for the message.
        number: int. The line's number, for the message.

    Raises:
        UserError: There are fewer.

    Example:

    ```python
    columns("a\\tb", 2, Path("x.tsv"), 1)  # ["a", "b"]
    ```
    """
    # No CSV reader, to which quotes would be part of the format.
    found = line.split("\t")
    if len(found) < width:
        raise UserError(
            f"{path}, line {number}: expected {width} tab-separated columns, "
            f"received {len(found)}"
        )
    return found


def words(sentence: str) -> str:
    """A sentence with one space between words and none around it, as in SentEval.

    Example:

    ```python
    words(" A  man ")  # "A man"
    ```
    """
    return " ".join(sentence.split())


def resolve_names(
    names: Sequence[str], known: Mapping[str, Sequence[str]]
) -> list[str]:
    """Turns what a user typed into task names.

    Args:
        names: Names in any case, of single tasks or of groups.
        known: The tasks that each name in lower case stands for.

    Returns:
        The tasks in the order given, each once.

    Raises:
        UserError: A name is unknown; the message gives the nearest known one.

    Example:

    ```python
    resolve_names(["MR"], {"mr": ["MR"]})  # ["MR"]
    ```
    """
    tasks: dict[str, None] = {}
    for name in names:
        key = name.strip().lower()
        if key not in known:
            [near] = difflib.get_close_matches(key, known, n=1, cutoff=0)
            groups = [name for name, tasks in known.items() if len(tasks) != 1]
            single = dict.fromkeys(t[0] for t in known.values() if len(t) == 1)
            suggested = near if near in groups else known[near][0]
            raise UserError(
                f"unknown task {name!r}: did you mean {suggested!r}? "
                f"Known: {', '.join([*groups, *single])}"
            )
        tasks.update(dict.fromkeys(known[key]))
    return list(tasks)
