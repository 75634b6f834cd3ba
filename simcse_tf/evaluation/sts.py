"""The seven STS tasks of the SimCSE paper, for any sentence encoder.

Semantic textual similarity: people scored how alike two sentences mean, the
encoder's cosine similarity should rank the pairs as they did. The protocol is the
paper's (Gao et al. 2021, appendix B): no regressor on top, Spearman's correlation,
and the "all" aggregation, one correlation over all of a task's subsets together.

The files are read where SentEval keeps them; no model is known here.
"""

import codecs
import difflib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from simcse_tf.errors import UserError

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

# Spelled out, because a subset that went missing would otherwise change the score
# without a word. STS13 has no SMT, which is not freely available (as in SentEval).
_SUBSETS = {
    "STS12": (
        "MSRpar",
        "MSRvid",
        "SMTeuroparl",
        "surprise.OnWN",
        "surprise.SMTnews",
    ),
    "STS13": ("FNWN", "headlines", "OnWN"),
    "STS14": (
        "deft-forum",
        "deft-news",
        "headlines",
        "images",
        "OnWN",
        "tweet-news",
    ),
    "STS15": (
        "answers-forums",
        "answers-students",
        "belief",
        "headlines",
        "images",
    ),
    "STS16": (
        "answer-answer",
        "headlines",
        "plagiarism",
        "postediting",
        "question-question",
    ),
}
_SICK_FILES = {
    "train": "SICK_train.txt",
    "dev": "SICK_trial.txt",
    "test": "SICK_test_annotated.txt",
}
_LABELS = {"STSBenchmark": "STS-B", "SICKRelatedness": "SICK-R", "avg": "Avg."}
_NAMES = {task.lower(): task for task in TASKS} | {
    "sts-b": "STSBenchmark",
    "stsb": "STSBenchmark",
    "sick-r": "SICKRelatedness",
    "sickr": "SICKRelatedness",
}

Encoder: TypeAlias = Callable[[list[str]], ArrayLike]
_ScoredPair: TypeAlias = tuple[str, str, float]


@dataclass(frozen=True)
class Pairs:
    """The scored sentence pairs of one split of a task.

    Attributes:
        sentences_a: The first sentence of each of n pairs.
        sentences_b: The second sentence of each pair.
        scores: float64 `(n,)`, the human scores: 0 to 5 (SICK: 1 to 5).
        subsets: Where each subset of the task lies in the three above.
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
    """
    tasks: dict[str, None] = {}
    for name in names:
        key = name.strip().lower()
        if key == "sts":
            tasks.update(dict.fromkeys(_tasks_with(split)))
        elif key in _NAMES:
            tasks[_NAMES[key]] = None
        else:
            near = difflib.get_close_matches(key, ["sts", *_NAMES], n=1, cutoff=0)
            known = _NAMES.get(near[0], near[0])
            raise UserError(
                f"unknown task {name!r}: did you mean {known!r}? "
                f"Known: sts, {', '.join(TASKS)}"
            )
    return list(tasks)


def available_tasks(data_dir: str | Path, split: str = "test") -> list[str]:
    """The tasks whose files for `split` are in `data_dir`, in the order of `TASKS`.

    Args:
        data_dir: The directory that holds `STS/` and `SICK/`.
        split: `"train"`, `"dev"` or `"test"`. STS12 to STS16 have only `"test"`.

    Returns:
        Names of `TASKS`; an empty list where there are none.

    Raises:
        UserError: There is no such split.
    """
    return [t for t in _tasks_with(split) if _task_path(data_dir, t, split).exists()]


def load_task(data_dir: str | Path, task: str, split: str = "test") -> Pairs:
    """Reads the scored pairs of one task, all of its subsets concatenated.

    A pair without a human score (an empty gold line) is left out. Runs of white
    space in a sentence become one space, as in SentEval.

    Args:
        data_dir: The directory that holds `STS/` and `SICK/`.
        task: One of `TASKS`.
        split: `"train"`, `"dev"` or `"test"`. STS12 to STS16 have only `"test"`.

    Raises:
        UserError: The task or split does not exist, a file is missing, or a line
            is malformed or not UTF-8; the message names the file and the line.
    """
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}, expected one of {', '.join(TASKS)}")
    if task not in _tasks_with(split):
        raise UserError(f"{task} has only a test split, received split {split!r}")
    path = _task_path(data_dir, task, split)
    if not path.exists():
        raise UserError(
            f"{task}: {path} does not exist; expected a SentEval directory, "
            f"one that holds STS/ and SICK/, received {data_dir}"
        )
    if task == "STSBenchmark":
        return _join({task: _read_table(path, score=4, sentences=(5, 6))})
    if task == "SICKRelatedness":
        return _join({task: _read_table(path, score=3, sentences=(1, 2), header=True)})
    return _join({name: _read_subset(path, name) for name in _SUBSETS[task]})


def evaluate_sts(
    encode: Encoder,
    data_dir: str | Path,
    tasks: Sequence[str] = TASKS,
    split: str = "test",
) -> dict[str, float]:
    """Spearman's correlation, times 100, of cosine similarity with human scores.

    Args:
        encode: Maps n strings to an array `(n, dim)`; any length of the vectors.
            Called once, with every distinct sentence of all tasks.
        data_dir: The directory that holds `STS/` and `SICK/`.
        tasks: Names of `TASKS` (see `resolve_tasks` for what users type).
        split: `"train"`, `"dev"` or `"test"`.

    Returns:
        The score of each task, unrounded, and their mean as `"avg"`. Never NaN:
        see `spearman`.

    Raises:
        UserError: No task was named, or as `load_task`.
        ValueError: `encode` returned another shape.
    """
    if not tasks:
        raise UserError(f"no STS task to evaluate, expected some of {', '.join(TASKS)}")
    loaded = {task: load_task(data_dir, task, split) for task in tasks}
    rows: dict[str, int] = {}
    for pairs in loaded.values():
        for sentence in (*pairs.sentences_a, *pairs.sentences_b):
            rows.setdefault(sentence, len(rows))
    embeddings = np.asarray(encode(list(rows)))
    if embeddings.ndim != 2 or len(embeddings) != len(rows):
        raise ValueError(
            f"encode must return an array ({len(rows)}, dim) for {len(rows)} "
            f"sentences, received shape {embeddings.shape}"
        )

    scores: dict[str, float] = {}
    for task, pairs in loaded.items():
        similarity = cosine_similarity(
            embeddings[[rows[s] for s in pairs.sentences_a]],
            embeddings[[rows[s] for s in pairs.sentences_b]],
        )
        scores[task] = 100.0 * spearman(similarity, pairs.scores)
    scores["avg"] = math.fsum(scores.values()) / len(scores)
    return scores


def cosine_similarity(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Cosine of the angle between each row of `a` and the same row of `b`.

    Args:
        a: `(n, dim)`, any real dtype; computed in float64.
        b: `(n, dim)`.

    Returns:
        float64 `(n,)`. A vector of length zero has similarity 0 with every vector.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    dot = np.sum(a * b, axis=-1)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.divide(dot, norms, out=np.zeros_like(dot), where=norms != 0)


def spearman(predicted: ArrayLike, gold: ArrayLike) -> float:
    """Spearman's rank correlation, ties with their mean rank.

    Where the correlation is undefined (a side is constant, as when a model has
    collapsed, or holds NaN or infinity) the answer is 0.0 with a `RuntimeWarning`:
    such a model ranks nothing, and a NaN would win or lose every comparison of
    checkpoints by accident.

    Args:
        predicted: `(n,)`.
        gold: `(n,)`.

    Returns:
        A number from -1 to 1.
    """
    x, y = np.asarray(predicted, np.float64), np.asarray(gold, np.float64)
    ranks = all(v.size > 1 and np.isfinite(v).all() and np.ptp(v) > 0 for v in (x, y))
    if not ranks:
        warnings.warn(
            "constant or non-finite similarities rank nothing: correlation set to 0",
            RuntimeWarning,
            stacklevel=2,
        )
        return 0.0
    return float(spearmanr(x, y).statistic)


def format_table(scores: Mapping[str, float]) -> str:
    """One model's scores under the paper's column names; see `format_models`."""
    return format_models({"": scores})


def format_models(models: Mapping[str, Mapping[str, float]]) -> str:
    """A table of the paper's form (tables 5 and 6): a line per model.

    Args:
        models: The scores of each model by its name, as `evaluate_sts` returns
            them. Where a model lacks a score, the table has a dash.

    Returns:
        Lines of equal width, two decimals, without a final newline.
    """
    present = set().union(*models.values())
    columns = [column for column in (*TASKS, "avg") if column in present]
    margin = max(map(len, models), default=0)
    lines = [_format_row("", [_LABELS.get(c, c) for c in columns], margin)]
    for name, scores in models.items():
        cells = [f"{scores[c]:.2f}" if c in scores else "-" for c in columns]
        lines.append(_format_row(name, cells, margin))
    return "\n".join(lines)


def _format_row(name: str, cells: Sequence[str], margin: int) -> str:
    return name.ljust(margin) + "".join(cell.rjust(8) for cell in cells)


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
    lines, golds = list(_read_lines(inputs)), list(_read_lines(gold))
    if len(lines) != len(golds):
        raise UserError(
            f"{inputs} has {len(lines)} lines and {gold} {len(golds)}, "
            "expected one score, or an empty line, for each pair"
        )
    pairs = []
    for number, (line, score) in enumerate(zip(lines, golds, strict=True), start=1):
        if score.strip():
            a, b = _columns(line, 2, inputs, number)[:2]
            pairs.append((_words(a), _words(b), _score(score, gold, number)))
    return _not_empty(pairs, gold)


def _read_table(
    path: Path, score: int, sentences: tuple[int, int], header: bool = False
) -> list[_ScoredPair]:
    width = 1 + max(score, *sentences)
    pairs = []
    for number, line in enumerate(_read_lines(path), start=1):
        columns = _columns(line, width, path, number)
        if header and number == 1:
            _expect_header(columns, path)
            continue
        a, b = (_words(columns[i]) for i in sentences)
        pairs.append((a, b, _score(columns[score], path, number)))
    return _not_empty(pairs, path)


def _read_lines(path: Path) -> Iterator[str]:
    try:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    # Only a newline ends a line: `str.splitlines` would also cut at the line
    # separators that occur inside sentences, and shift pairs against scores.
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            yield line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, line {number}: not UTF-8 ({error})") from error


def _columns(line: str, width: int, path: Path, number: int) -> list[str]:
    # Quotes are part of the text, not of the format, so no CSV reader here.
    columns = line.split("\t")
    if len(columns) < width:
        raise UserError(
            f"{path}, line {number}: expected {width} tab-separated columns, "
            f"received {len(columns)}"
        )
    return columns


def _words(sentence: str) -> str:
    return " ".join(sentence.split())


def _score(text: str, path: Path, number: int) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise UserError(f"{path}, line {number}: expected a score, received {text!r}")
    return score


def _expect_header(columns: Sequence[str], path: Path) -> None:
    if columns[1:4] != ["sentence_A", "sentence_B", "relatedness_score"]:
        raise UserError(
            f"{path}, line 1: expected a header with pair_ID, sentence_A, sentence_B, "
            f"relatedness_score, received {', '.join(columns)!r}"
        )


def _not_empty(pairs: list[_ScoredPair], path: Path) -> list[_ScoredPair]:
    if not pairs:
        raise UserError(f"{path} holds no scored pair")
    return pairs
