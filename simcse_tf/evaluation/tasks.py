"""From what a user names as evaluation data to the tasks in it.

That is a path, or several by name: a directory in SentEval's layout, and sets of the
user's own. What a path holds is recognised by what is there.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from simcse_tf.core.errors import UserError
from simcse_tf.core.extras import require
from simcse_tf.core.json_files import shown
from simcse_tf.core.stored_files import PACKINGS, suffixes_of
from simcse_tf.evaluation import sts, transfer
from simcse_tf.evaluation.own_files import SUFFIXES, read_retrieval, read_table
from simcse_tf.evaluation.own_sets import AVERAGE, OwnSet
from simcse_tf.evaluation.sts_files import SPLITS, Pairs
from simcse_tf.evaluation.text_files import resolve_names
from simcse_tf.evaluation.transfer import Examples

# A path, or by name a path or those of each split.
Data: TypeAlias = str | Path | Mapping[str, str | Mapping[str, str]]

OWN = "own"
_CORPUS = "corpus.jsonl"
_QRELS = "qrels"
_SENTEVAL = ("STS", "SICK", "MR", "CR", "SUBJ", "MPQA", "SST", "TREC", "MRPC")
_NAME = re.compile(r"[\w.-]+")
# The split of a file that is all there is.
_ONLY = ""
_EXPECTED = (
    "expected a SentEval directory (STS/, SICK/, MR/ ...), one in BEIR's layout "
    f"({_CORPUS}, queries.jsonl, {_QRELS}/), one that holds dev or test as "
    f"{', '.join(SUFFIXES)}, or such a file"
)


@dataclass(frozen=True)
class Tasks:
    """What the files of the tasks hold.

    Attributes:
        sts: The pairs of each STS task by its name.
        transfer: The splits of each transfer task by its name.
        own: The user's own sets by name.

    Example:

    ```python
    tasks = load_tasks(find_data("senteval"), ["sts", "MR"])
    tasks.sts["STS12"].sentences_a[0]
    ```
    """

    sts: Mapping[str, Pairs] = field(default_factory=dict)
    transfer: Mapping[str, Mapping[str, Examples]] = field(default_factory=dict)
    own: Mapping[str, OwnSet] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.sts or self.transfer or self.own)


@dataclass(frozen=True)
class FoundData:
    """Where evaluation data are, before they are read.

    Attributes:
        senteval: The directory in SentEval's layout, if there is one.
        own: The files of each own set, by its name and split.

    Example:

    ```python
    find_data({"mine": "pairs.csv", "sts": "senteval"}).available("dev")
    ```
    """

    senteval: Path | None = None
    own: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)

    def available(self, split: str) -> list[str]:
        """The STS tasks and own sets that have a split, by name.

        A set that is a single file has a dev split: it is what checkpoints are chosen
        by.
        """
        tasks = sts.available_tasks(self.senteval, split) if self.senteval else []
        own = [n for n, files in self.own.items() if _file_of(files, split)]
        return [*tasks, *own]


def find_data(data: Data, where: str = "--data") -> FoundData:
    """Recognises evaluation data by what is there.

    Args:
        data: A path, or by name a path or a mapping from splits to paths. A path is a
            directory in SentEval's layout, one in BEIR's, one that holds `dev` or
            `test` as a table (`dev.csv`, say), a table, or a file in a `qrels/` of
            BEIR's layout.
        where: string. The key or flag that named it, for the message.

    Raises:
        UserError: There is none of these, or a name cannot be that of a score.

    Example:

    ```python
    find_data("senteval").senteval
    find_data({"mine": {"dev": "a.csv", "test": "b.csv"}}).own["mine"]["test"]
    ```
    """
    named = data if isinstance(data, Mapping) else {set_name(data): str(data)}
    senteval: Path | None = None
    own: dict[str, Mapping[str, Path]] = {}
    for name, value in named.items():
        paths = value if isinstance(value, Mapping) else {_ONLY: value}
        found = {split: _recognised(path, where) for split, path in paths.items()}
        if None not in found.values():
            _check_name(name, where)
            own[name] = _files_by_split(found, where)  # type: ignore[arg-type]
        elif senteval or len(found) > 1 or isinstance(value, Mapping):
            raise UserError(
                f"{where}: expected one SentEval directory, with its own splits, "
                f"received {shown(value)}"
            )
        else:
            senteval = Path(value)
    if not senteval and not own:
        raise UserError(f"{where}: {_EXPECTED}; received none")
    return FoundData(senteval, own)


def named_data(paths: Sequence[str], where: str = "--data") -> dict[str, str]:
    """What a command line names: paths, each with `NAME=` before it or not.

    Raises:
        UserError: Two have the same name.

    Example:

    ```python
    named_data(["senteval", "mine=pairs.csv"])
    ```
    """
    named: dict[str, str] = {}
    for given in paths:
        name, equals, path = given.partition("=")
        if not equals or os.path.exists(given):
            name, path = set_name(given), given
        if name in named:
            raise UserError(
                f"{where}: {named[name]} and {path} are both called {shown(name)}: "
                "give one another name, as NAME=PATH"
            )
        named[name] = path
    return named


def set_name(path: str | Path) -> str:
    """The name of an own set that a path alone was given for.

    Example:

    ```python
    set_name("data/mine.csv"), set_name("beir/scifact/qrels/test.tsv")
    # ("mine", "scifact")
    ```
    """
    path = Path(path)
    suffix, packing = suffixes_of(str(path))
    if suffix not in SUFFIXES:
        return path.name or Path(os.path.abspath(path)).name
    path = path.with_name(path.name[: len(path.name) - len(packing)])
    if path.parent.name == _QRELS:
        return path.parent.parent.name
    return path.parent.name if path.stem in SPLITS and path.parent.name else path.stem


def load_tasks(
    found: FoundData, names: Sequence[str] | None = None, split: str = "test"
) -> Tasks:
    """Reads the tasks that a user names.

    Args:
        found: As `find_data` returns it.
        names: Optional names in any case: `"sts"`, `"transfer"`, `"own"`, single tasks
            or sets, or several. Defaults to the STS tasks and all own sets.
        split: `"dev"` or `"test"`. Defaults to `"test"`. A set that is a single file
            has none, and is read for either.

    Raises:
        UserError: A name is unknown, a file is missing or malformed, or scikit-learn,
            which transfer tasks need, is not installed.

    Example:

    ```python
    load_tasks(find_data("senteval"), ["STS-B", "transfer"])
    ```
    """
    known = {name.lower(): [name] for name in found.own}
    if found.own:
        known = {OWN: list(found.own), **known}
    if found.senteval:
        known = sts.known_names(split) | transfer.known_names() | known
    if names is None:
        names = [name for name in ("sts", OWN) if name in known]
    tasks = resolve_names(names, known)
    own = {name: found.own[name] for name in tasks if name in found.own}
    of_transfer = [task for task in tasks if task in transfer.TASKS]
    if of_transfer:
        require("sklearn")
    directory = found.senteval or ""
    return Tasks(
        {t: sts.load_task(directory, t, split) for t in tasks if t in sts.TASKS},
        {task: transfer.load_task(directory, task) for task in of_transfer},
        {name: _read(name, files, split) for name, files in own.items()},
    )


def _recognised(path: str | Path, where: str) -> Mapping[str, Path] | None:
    """The files of an own set by split; `None` for a SentEval directory."""
    directory = Path(path)
    # `Path.is_dir` raises where a name is too long.
    if os.path.isdir(directory):
        if os.path.exists(directory / _CORPUS):
            return {qrels.stem: qrels for qrels in directory.glob(f"{_QRELS}/*.tsv")}
        there = [
            (split, directory / f"{split}{suffix}{packing}")
            for split in SPLITS
            for suffix in SUFFIXES
            for packing in PACKINGS
            if os.path.isfile(directory / f"{split}{suffix}{packing}")
        ]
        splits = dict(there)
        if len(splits) < len(there):
            names = ", ".join(table.name for _, table in there)
            raise UserError(f"{where}: {path} holds {names}: expected one of a split")
        if splits:
            return splits
        if any(os.path.isdir(directory / name) for name in _SENTEVAL):
            return None
    elif os.path.isfile(directory) and suffixes_of(str(directory))[0] in SUFFIXES:
        return {_ONLY: directory}
    raise UserError(f"{where}: {_EXPECTED}; received {shown(str(path))}")


def _files_by_split(
    found: Mapping[str, Mapping[str, Path]], where: str
) -> Mapping[str, Path]:
    if [*found] == [_ONLY]:
        return found[_ONLY]
    files: dict[str, Path] = {}
    for split, there in found.items():
        file = there.get(_ONLY) or there.get(split)
        if split not in ("dev", "test") or file is None:
            raise UserError(
                f'{where}: expected files for "dev" and "test", received '
                f"{shown(split)} with {', '.join(there) or 'none'}"
            )
        files[split] = file
    return files


def _check_name(name: str, where: str) -> None:
    reserved = {*sts.known_names(), *transfer.known_names(), AVERAGE, OWN}
    reserved |= {"avg", "transfer_avg", "step"}
    if not _NAME.fullmatch(name) or name.lower() in reserved:
        raise UserError(
            f"{where}: {shown(name)} cannot name a set: expected letters, digits, "
            "'.', '_' and '-', and not the name of a task; give it another one "
            '(NAME=PATH on a command line, {"NAME": PATH} in a config)'
        )


def _file_of(files: Mapping[str, Path], split: str) -> Path | None:
    return files.get(split) or (files.get(_ONLY) if split == "dev" else None)


def _read(name: str, files: Mapping[str, Path], split: str) -> OwnSet:
    file = files.get(_ONLY) or files.get(split)
    if file is None:
        raise UserError(
            f"{name} has no {split} split, expected one of {', '.join(files) or 'none'}"
        )
    corpus = file.parent.parent
    if file.parent.name == _QRELS and os.path.exists(corpus / _CORPUS):
        return read_retrieval(corpus, file)
    return read_table(file)
