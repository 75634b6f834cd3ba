"""What the readers of SentEval's files share: columns, words and task names."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from simcse_tf.core.errors import UserError


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
