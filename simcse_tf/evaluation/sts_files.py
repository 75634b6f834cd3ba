"""The files of the seven STS tasks, where SentEval keeps them."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.text_lines import read_lines
from simcse_tf.evaluation import counts
from simcse_tf.evaluation.text_files import columns, resolve_names, words

TASKS = (
    "STS12",
    "STS13",
    "STS14",
    "STS15",
    "STS16",
    "STSBenchmark",
    "SICKRelatedness",
)
SPLITS = ("train", "dev", "test")

_SICK_FILES = {
    "train": "SICK_train.txt",
    "dev": "SICK_trial.txt",
    "test": "SICK_test_annotated.txt",
}
# Spelled out, because a subset that went missing would otherwise change the score
# without a word. STS13 has no SMT, which is not freely available (as in SentEval).
_SUBSETS = {task: tuple(counts.STS[task]) for task in TASKS if task.startswith("STS1")}
# The columns of the score and of the sentences, and whether there is a header.
_TABLES = {
    "STSBenchmark": (4, (5, 6), False),
    "SICKRelatedness": (3, (1, 2), True),
}
_NAMES = {task.lower(): task for task in TASKS} | {
    "sts-b": "STSBenchmark",
    "stsb": "STSBenchmark",
    "sick-r": "SICKRelatedness",
    "sickr": "SICKRelatedness",
}

_ScoredPair: TypeAlias = tuple[str, str, float]


@dataclass(frozen=True)
class Pairs:
    """The scored sentence pairs of one split of a task.

    Attributes:
        sentences_a: The first sentence of each of n pairs.
        sentences_b: The second sentence of each pair.
        scores: float64 `(n,)`, the human scores: 0 to 5 (SICK: 1 to 5).
        subsets: Where each subset of the task lies in the three above.

    Example:

    ```python
    Pairs(["A man."], ["A woman."], np.array([2.5]))
    ```
    """

    sentences_a: list[str]
    sentences_b: list[str]
    scores: np.ndarray
    subsets: dict[str, slice] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scores)


def resolve_tasks(names: Sequence[str], split: str = "test") -> list[str]:
    """Turns what a user typed into task names.

    Args:
        names: Names in any case: those of `TASKS`, the aliases `STS-B`, `STSB`,
            `SICK-R` and `SICKR`, or `sts` for every task that has `split`.
        split: `"train"`, `"dev"` or `"test"`.

    Returns:
        Names of `TASKS` in the order given, each once.

    Raises:
        UserError: A name is unknown; the message gives the nearest known one.

    Example:

    ```python
    resolve_tasks(["sts12", "STS-B"])  # ["STS12", "STSBenchmark"]
    ```
    """
    return resolve_names(names, known_names(split))


def known_names(split: str = "test") -> dict[str, list[str]]:
    """The tasks that each name a user may type stands for.

    Args:
        split: `"train"`, `"dev"` or `"test"`.

    Example:

    ```python
    known_names()["sts-b"]  # ["STSBenchmark"]
    ```
    """
    single = {name: [task] for name, task in _NAMES.items()}
    return {"sts": _tasks_with(split)} | single


def available_tasks(data_dir: str | Path, split: str = "test") -> list[str]:
    """The tasks whose files for `split` are in `data_dir`, in the order of `TASKS`.

    Args:
        data_dir: The directory that holds `STS/` and `SICK/`.
        split: `"train"`, `"dev"` or `"test"`. STS12 to STS16 have only `"test"`.

    Returns:
        Names of `TASKS`; an empty list where there are none.

    Raises:
        UserError: There is no such split.

    Example:

    ```python
    available_tasks("senteval", "dev")  # ["STSBenchmark", "SICKRelatedness"]
    ```
    """
    # `Path.exists` raises where a name is too long.
    paths = {t: _task_path(data_dir, t, split) for t in _tasks_with(split)}
    return [task for task, path in paths.items() if os.path.exists(path)]


def load_task(data_dir: str | Path, task: str, split: str = "test") -> Pairs:
    """Reads the scored pairs of one task, all of its subsets concatenated.

    A pair without a human score (an empty gold line) is left out. Runs of white
    space in a sentence become one space, as in SentEval.

    Args:
        data_dir: The directory that holds `STS/` and `SICK/`.
        task: One of `TASKS`.
        split: `"train"`, `"dev"` or `"test"`. STS12 to STS16 have only `"test"`.

    Raises:
        UserError: The task or split does not exist, a file is missing or does not hold
            all of its pairs, all scores are the same, or a line is malformed or not
            UTF-8; the message names the file and the line.

    Example:

    ```python
    pairs = load_task("senteval", "STSBenchmark", "dev")
    pairs.sentences_a[0], pairs.sentences_b[0], pairs.scores[0]
    ```
    """
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}, expected one of {', '.join(TASKS)}")
    if task not in _tasks_with(split):
        raise UserError(f"{task} has only a test split, received split {split!r}")
    path = _task_path(data_dir, task, split)
    if not os.path.exists(path):
        raise UserError(
            f"{task}: {path} does not exist; expected a SentEval directory, "
            f"one that holds STS/ and SICK/, received {data_dir}"
        )
    subsets = {}
    if task in _SUBSETS:
        for name in _SUBSETS[task]:
            subsets[name] = _read_subset(path, name)
            gold = path / f"STS.gs.{name}.txt"
            counts.check_sts(task, name, len(subsets[name]), gold)
    else:
        subsets[task] = _read_table(path, *_TABLES[task])
        counts.check_sts(task, split, len(subsets[task]), path)
    pairs = _join(subsets)
    if np.ptp(pairs.scores) == 0:
        raise UserError(
            f"{path}: all {len(pairs)} pairs have the score {pairs.scores[0]:g}, with "
            "which nothing correlates; expected different scores"
        )
    return pairs


def load_tasks(
    data_dir: str | Path, tasks: Sequence[str], split: str = "test"
) -> dict[str, Pairs]:
    """Reads several tasks; see `load_task`.

    Returns:
        The pairs of each task by its name, in the order of `tasks`.

    Raises:
        UserError: No task was named, or as `load_task`.

    Example:

    ```python
    load_tasks("senteval", ["STS12", "STS13"])["STS13"]
    ```
    """
    if not tasks:
        raise UserError(f"no STS task to evaluate, expected some of {', '.join(TASKS)}")
    return {task: load_task(data_dir, task, split) for task in tasks}


def _tasks_with(split: str) -> list[str]:
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}, expected one of {', '.join(SPLITS)}")
    return [task for task in TASKS if split == "test" or task not in _SUBSETS]


def _task_path(data_dir: str | Path, task: str, split: str) -> Path:
    if task == "STSBenchmark":
        return Path(data_dir, "STS", task, f"sts-{split}.csv")
    if task == "SICKRelatedness":
        return Path(data_dir, "SICK", _SICK_FILES[split])
    return Path(data_dir, "STS", f"{task}-en-test")


def _join(subsets: Mapping[str, Sequence[_ScoredPair]]) -> Pairs:
    pairs: list[_ScoredPair] = []
    slices = {}
    for name, scored in subsets.items():
        slices[name] = slice(len(pairs), len(pairs) + len(scored))
        pairs.extend(scored)
    return Pairs(
        [a for a, _, _ in pairs],
        [b for _, b, _ in pairs],
        np.array([score for _, _, score in pairs], np.float64),
        slices,
    )


def _read_subset(directory: Path, name: str) -> list[_ScoredPair]:
    inputs, gold = (directory / f"STS.{kind}.{name}.txt" for kind in ("input", "gs"))
    lines, golds = list(read_lines(inputs)), list(read_lines(gold))
    if len(lines) != len(golds):
        raise UserError(
            f"{inputs} has {len(lines)} lines and {gold} {len(golds)}, "
            "expected one score, or an empty line, for each pair"
        )
    pairs = []
    for number, (line, score) in enumerate(zip(lines, golds, strict=True), start=1):
        if score.strip():
            a, b = columns(line, 2, inputs, number)[:2]
            pairs.append((words(a), words(b), _score(score, gold, number)))
    return pairs


def _read_table(
    path: Path, score: int, sentences: tuple[int, int], header: bool
) -> list[_ScoredPair]:
    width = 1 + max(score, *sentences)
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        cells = columns(line, width, path, number)
        if header and number == 1:
            _expect_header(cells, path)
            continue
        a, b = (words(cells[i]) for i in sentences)
        pairs.append((a, b, _score(cells[score], path, number)))
    return pairs


def _score(text: str, path: Path, number: int) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise UserError(f"{path}, line {number}: expected a score, received {text!r}")
    return score


def _expect_header(cells: Sequence[str], path: Path) -> None:
    if cells[1:4] != ["sentence_A", "sentence_B", "relatedness_score"]:
        raise UserError(
            f"{path}, line 1: expected a header with pair_ID, sentence_A, sentence_B, "
            f"relatedness_score, received {', '.join(cells)!r}"
        )
