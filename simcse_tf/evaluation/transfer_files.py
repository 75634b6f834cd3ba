"""The files of the seven transfer tasks, where SentEval keeps them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.text_lines import read_lines
from simcse_tf.evaluation import counts
from simcse_tf.evaluation.text_files import columns, resolve_names, words

TASKS = ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC")

# Examples of each class: each of ten folds inside ten folds then has some.
FEWEST = 20

# Two files are the examples of label 1 and those of label 0.
_FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "MR": {"train": ("MR/rt-polarity.pos", "MR/rt-polarity.neg")},
    "CR": {"train": ("CR/custrev.pos", "CR/custrev.neg")},
    "SUBJ": {"train": ("SUBJ/subj.objective", "SUBJ/subj.subjective")},
    "MPQA": {"train": ("MPQA/mpqa.pos", "MPQA/mpqa.neg")},
    "SST2": {
        "train": ("SST/binary/sentiment-train",),
        "dev": ("SST/binary/sentiment-dev",),
        "test": ("SST/binary/sentiment-test",),
    },
    "TREC": {"train": ("TREC/train_5500.label",), "test": ("TREC/TREC_10.label",)},
    "MRPC": {
        "train": ("MRPC/msr_paraphrase_train.txt",),
        "test": ("MRPC/msr_paraphrase_test.txt",),
    },
}
_QUESTIONS = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
_NAMES = {task.lower(): [task] for task in TASKS} | {"sst-2": ["SST2"]}

# The sentences of an example, two in MRPC and else one, and its label.
_Example: TypeAlias = tuple[tuple[str, ...], int]


@dataclass(frozen=True)
class Examples:
    """The labelled sentences, or sentence pairs, of one split of a task.

    Attributes:
        sentences: The n sentences; in MRPC the n first ones and the n second ones.
        labels: int64 `(n,)`, from 0.

    Example:

    ```python
    Examples((["good", "bad"],), np.array([1, 0]))
    ```
    """

    sentences: tuple[list[str], ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def known_names() -> dict[str, list[str]]:
    """The tasks that each name a user may type stands for.

    Example:

    ```python
    known_names()["sst-2"]  # ["SST2"]
    ```
    """
    return {"transfer": list(TASKS)} | _NAMES


def resolve_tasks(names: Sequence[str]) -> list[str]:
    """Turns what a user typed into task names.

    Args:
        names: Names in any case: those of `TASKS`, or `transfer` for all of them.

    Returns:
        Names of `TASKS` in the order given, each once.

    Raises:
        UserError: A name is unknown; the message gives the nearest known one.

    Example:

    ```python
    resolve_tasks(["mr", "sst-2"])  # ["MR", "SST2"]
    ```
    """
    return resolve_names(names, known_names())


def load_task(data_dir: str | Path, task: str) -> dict[str, Examples]:
    """Reads one task, its examples in the order that SentEval's folds depend on.

    Runs of white space in a sentence become one space. An empty line is an example
    with an empty sentence, as in SentEval.

    Args:
        data_dir: The directory that holds `MR/`, `CR/`, `SST/` and so on.
        task: One of `TASKS`.

    Returns:
        By split: `"train"` alone (MR, CR, SUBJ, MPQA: all there is), `"train"` and
        `"test"` (TREC, MRPC), or `"train"`, `"dev"` and `"test"` (SST2).

    Raises:
        UserError: The task does not exist, a file is missing or does not hold all of
            its examples, a line is malformed (the message names the file and the
            line), or a class has too few examples.

    Example:

    ```python
    load_task("senteval", "SST2")["dev"].labels
    ```
    """
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}, expected one of {', '.join(TASKS)}")
    splits = {}
    for split, names in _FILES[task].items():
        paths = [Path(data_dir, name) for name in names]
        for path in paths:
            _expect(path, task, data_dir)
        splits[split] = _examples(list(_read(task, paths)))
    _expect_classes(splits["train"], task, data_dir)
    return splits


def load_tasks(
    data_dir: str | Path, tasks: Sequence[str] = TASKS
) -> dict[str, dict[str, Examples]]:
    """Reads several tasks; see `load_task`.

    Returns:
        The splits of each task by its name, in the order of `tasks`.

    Raises:
        UserError: No task was named, or as `load_task`.

    Example:

    ```python
    load_tasks("senteval", ["MR", "CR"])["CR"]["train"]
    ```
    """
    if not tasks:
        raise UserError(
            f"no transfer task to evaluate, expected some of {', '.join(TASKS)}"
        )
    return {task: load_task(data_dir, task) for task in tasks}


def _examples(examples: list[_Example]) -> Examples:
    # SentEval's order: by the number of words, then by label.
    examples.sort(key=lambda e: (*[len(text.split()) for text in e[0]], e[1]))
    texts = zip(*(sentences for sentences, _ in examples), strict=True)
    labels = np.array([label for _, label in examples], np.int64)
    return Examples(tuple(map(list, texts)), labels)


def _read(task: str, paths: Sequence[Path]) -> Iterator[_Example]:
    for label, path in zip((1, 0), paths, strict=False):
        reader = _READERS.get(task)
        examples = list(reader(path) if reader else _read_sentences(path, label))
        counts.check_transfer(len(examples), path)
        yield from examples


def _read_sentences(path: Path, label: int) -> Iterator[_Example]:
    for line in read_lines(path, "latin-1"):
        yield (words(line),), label


def _read_sst(path: Path) -> Iterator[_Example]:
    for number, line in enumerate(read_lines(path), start=1):
        sentence, label = columns(line, 2, path, number)[:2]
        yield (words(sentence),), _label(label, ("0", "1"), path, number)


def _read_trec(path: Path) -> Iterator[_Example]:
    for number, line in enumerate(read_lines(path, "latin-1"), start=1):
        fine, _, question = line.strip().partition(" ")
        coarse, colon, _ = fine.partition(":")
        label = _label(coarse if colon else fine, _QUESTIONS, path, number)
        yield (words(question),), label


def _read_mrpc(path: Path) -> Iterator[_Example]:
    for number, line in enumerate(read_lines(path), start=1):
        label, _, _, a, b = columns(line, 5, path, number)[:5]
        if number == 1:
            if label != "Quality":
                raise UserError(
                    f"{path}, line 1: expected a header that begins with Quality, "
                    f"received {label!r}"
                )
            continue
        yield (words(a), words(b)), _label(label, ("0", "1"), path, number)


_READERS = {"SST2": _read_sst, "TREC": _read_trec, "MRPC": _read_mrpc}


def _label(text: str, known: Sequence[str], path: Path, number: int) -> int:
    if text.strip() not in known:
        raise UserError(
            f"{path}, line {number}: expected a label of {', '.join(known)}, "
            f"received {text!r}"
        )
    return known.index(text.strip())


def _expect(path: Path, task: str, data_dir: str | Path) -> None:
    if not os.path.exists(path):
        raise UserError(
            f"{task}: {path} does not exist; expected a SentEval directory, "
            f"one that holds MR/, CR/, SST/binary/ and so on, received {data_dir}"
        )


def _expect_classes(train: Examples, task: str, data_dir: str | Path) -> None:
    counts = np.bincount(train.labels, minlength=6 if task == "TREC" else 2)
    if counts.min() < FEWEST:
        raise UserError(
            f"{task} in {data_dir}: expected at least {FEWEST} training examples of "
            f"each class, received {', '.join(map(str, counts))}"
        )
