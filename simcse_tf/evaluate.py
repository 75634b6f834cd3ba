"""`python -m simcse_tf.evaluate`: a model's scores on STS and transfer tasks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError

if TYPE_CHECKING:
    from simcse_tf.evaluation.caching import Encoder
    from simcse_tf.evaluation.significance import Comparison
    from simcse_tf.evaluation.sts import Pairs
    from simcse_tf.evaluation.tables import Row
    from simcse_tf.evaluation.transfer import Examples, Result

# A model's name and what it reached.
Model: TypeAlias = "tuple[str, Evaluation]"


class Tasks(NamedTuple):
    """What the files of the tasks hold.

    Attributes:
        sts: The pairs of each STS task by its name.
        transfer: The splits of each transfer task by its name.
    """

    sts: Mapping[str, Pairs]
    transfer: Mapping[str, Mapping[str, Examples]]


class Evaluation(NamedTuple):
    """What one model reached.

    Attributes:
        similarities: float64 `(n,)` of each STS task by its name.
        sts: The STS scores and their `"avg"`.
        intervals: The same scores' intervals.
        results: The result of each transfer task by its name.
        transfer: The transfer scores and their `"transfer_avg"`.
    """

    similarities: Mapping[str, Any]
    sts: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    results: Mapping[str, Result]
    transfer: Mapping[str, float]

    def scores(self) -> dict[str, float]:
        """All scores; `"avg"` is of the STS tasks, and without any of the others."""
        scores = {**self.sts, **self.transfer}
        return scores if self.sts else {**scores, "avg": scores["transfer_avg"]}


def main() -> None:
    arguments = _parser().parse_args()
    for flag, path in (("--json", arguments.json), ("--details", arguments.details)):
        if path:
            _check_writable(flag, path)
    tasks = _load(arguments)
    names = [name for name in (arguments.model, arguments.compare) if name]
    # All of them before one encodes: a wrong name must not cost minutes.
    encoders = [_encoder(name, arguments.pooling) for name in names]
    evaluations = [_evaluate(encode, tasks, arguments) for encode in encoders]
    comparisons = _compare(evaluations, tasks, arguments)

    # One model needs no name in its table.
    titles = names if arguments.compare else [""]
    titled = list(zip(titles, evaluations, strict=True))
    if tasks.sts:
        print(_sts_table(titled, comparisons))
    if tasks.transfer:
        print(_transfer_table(titled), _seconds_table(titled), sep="\n")
    if arguments.json:
        _write_json("--json", arguments.json, evaluations[0].scores())
    if arguments.details:
        models = list(zip(names, evaluations, strict=True))
        details = _details(models, tasks, comparisons, arguments)
        _write_json("--details", arguments.details, details)


def _parser() -> Parser:
    from simcse_tf.encoders.pooling import POOLINGS
    from simcse_tf.evaluation.sts import AGGREGATIONS, METRICS

    parser = Parser(
        "simcse_tf.evaluate",
        description="Correlation x 100 on STS tasks, accuracy x 100 on transfer tasks.",
    )
    parser.add_argument("--model", required=True, help="directory, preset or handle")
    parser.add_argument("--pooling", choices=POOLINGS, help="default: the checkpoint's")
    parser.add_argument(
        "--tasks",
        default="sts",
        help="sts, transfer, names such as STS12,SICK-R,MR, or several of these",
    )
    parser.add_argument(
        "--data", required=True, help="SentEval directory: STS/, SICK/, MR/ and so on"
    )
    parser.add_argument(
        "--split",
        choices=("dev", "test"),
        default="test",
        help="dev: of transfer tasks the accuracy that C was chosen by",
    )
    parser.add_argument("--metric", choices=tuple(METRICS), default="spearman")
    parser.add_argument(
        "--aggregation",
        choices=AGGREGATIONS,
        default="all",
        help="of a task's subsets: all pairs together, or the (weighted) mean",
    )
    parser.add_argument(
        "--fast", action="store_true", help="transfer tasks with 5 folds instead of 10"
    )
    parser.add_argument(
        "--compare", metavar="MODEL", help="a second model, tested on the same pairs"
    )
    parser.add_argument("--json", metavar="OUT", help="write the unrounded scores")
    parser.add_argument(
        "--details", metavar="OUT", help="write everything: subsets, intervals, seconds"
    )
    return parser


def _load(arguments: Any) -> Tasks:
    from simcse_tf.core.extras import require
    from simcse_tf.evaluation import sts, transfer
    from simcse_tf.evaluation.text_files import resolve_names

    known = sts.known_names(arguments.split) | transfer.known_names()
    names = resolve_names(arguments.tasks.split(","), known)
    sts_names = [name for name in names if name in sts.TASKS]
    transfer_names = [name for name in names if name in transfer.TASKS]
    if transfer_names:
        require("sklearn")
    return Tasks(
        {n: sts.load_task(arguments.data, n, arguments.split) for n in sts_names},
        {n: transfer.load_task(arguments.data, n) for n in transfer_names},
    )


def _encoder(name: str, pooling: str | None) -> Encoder:
    from simcse_tf.encoders.base import longest_input
    from simcse_tf.encoding.bulk import encoder
    from simcse_tf.model.simcse import SimCSE

    model = SimCSE.from_preset(name, pooling=pooling)
    length = longest_input(model.backbone)
    return encoder(model, length, progress=True, normalize=False)


def _compare(
    evaluations: list[Evaluation], tasks: Tasks, arguments: Any
) -> dict[str, Comparison] | None:
    from simcse_tf.evaluation import significance

    if len(evaluations) == 1 or not tasks.sts:
        return None
    a, b = (evaluation.similarities for evaluation in evaluations)
    return significance.comparisons(
        a, b, tasks.sts, arguments.metric, arguments.aggregation
    )


def _evaluate(encode: Encoder, tasks: Tasks, arguments: Any) -> Evaluation:
    from simcse_tf.evaluation import significance, sts, transfer
    from simcse_tf.evaluation.caching import CachingEncoder

    once = CachingEncoder(encode)
    rule = (arguments.metric, arguments.aggregation)
    similarities: dict[str, Any] = {}
    scores: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    if tasks.sts:
        similarities = sts.similarities(once, tasks.sts)
        values = {t: sts.score(s, tasks.sts[t], *rule) for t, s in similarities.items()}
        scores = sts.with_average(values)
        intervals = significance.intervals(similarities, tasks.sts, *rule)
    results: dict[str, Any] = {}
    accuracies: dict[str, float] = {}
    if tasks.transfer:
        folds = transfer.FAST_FOLDS if arguments.fast else transfer.FOLDS
        results = transfer.evaluate_examples(once, tasks.transfer, folds, progress=True)
        accuracies = transfer.scores(results, arguments.split)
    return Evaluation(similarities, scores, intervals, results, accuracies)


def _sts_table(
    models: list[Model], comparisons: Mapping[str, Comparison] | None
) -> str:
    from simcse_tf.evaluation.sts import LABELS
    from simcse_tf.evaluation.tables import format_rows

    rows: list[Row] = []
    for name, evaluation in models:
        rows += [(name, evaluation.sts), *_interval_rows(evaluation.intervals)]
    if comparisons:
        found = comparisons.items()
        rows += [
            ("difference", {task: c.difference for task, c in found}),
            *_interval_rows({task: (c.low, c.high) for task, c in found}),
            ("p", {task: f"{c.p_value:.3f}" for task, c in found}),
        ]
    return format_rows(rows, LABELS)


def _interval_rows(intervals: Mapping[str, tuple[float, float]]) -> list[Row]:
    return [
        ("95% from", {task: low for task, (low, _) in intervals.items()}),
        ("      to", {task: high for task, (_, high) in intervals.items()}),
    ]


def _transfer_table(models: list[Model]) -> str:
    from simcse_tf.evaluation.tables import format_rows
    from simcse_tf.evaluation.transfer import LABELS

    rows: list[Row] = [(name, evaluation.transfer) for name, evaluation in models]
    if len(rows) == 2:
        (_, a), (_, b) = ((name, e.transfer) for name, e in models)
        rows.append(("difference", {task: a[task] - b[task] for task in a}))
    return format_rows(rows, LABELS)


def _seconds_table(models: list[Model]) -> str:
    from simcse_tf.evaluation.tables import format_rows
    from simcse_tf.evaluation.transfer import LABELS

    rows: list[Row] = []
    for name, evaluation in models:
        for part in ("encoding", "fitting"):
            seconds = {t: r.seconds[part] for t, r in evaluation.results.items()}
            cells = {**seconds, "total": sum(seconds.values())}
            title = f"{part}, s {name}".rstrip()
            rows.append((title, {task: f"{s:.1f}" for task, s in cells.items()}))
    return format_rows(rows, {**LABELS, "total": "Total"})


def _details(
    models: list[Model],
    tasks: Tasks,
    comparisons: Mapping[str, Comparison] | None,
    arguments: Any,
) -> dict[str, Any]:
    keys = ("split", "metric", "aggregation", "pooling", "fast")
    return {
        **{key: getattr(arguments, key) for key in keys},
        "models": [
            {"model": name, **_model_details(evaluation, tasks)}
            for name, evaluation in models
        ],
        "differences": {task: c._asdict() for task, c in (comparisons or {}).items()},
    }


def _model_details(evaluation: Evaluation, tasks: Tasks) -> dict[str, Any]:
    from simcse_tf.evaluation import sts

    return {
        "scores": evaluation.scores(),
        "intervals": evaluation.intervals,
        "sts": {
            task: sts.all_scores(similarity, tasks.sts[task])
            for task, similarity in evaluation.similarities.items()
        },
        "transfer": {task: asdict(r) for task, r in evaluation.results.items()},
    }


def _check_writable(flag: str, path: str) -> None:
    file = Path(path).absolute()
    there = next(parent for parent in file.parents if parent.exists())
    if file.is_dir():
        raise UserError(f"{flag}: cannot write {path}: it is a directory")
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(
            f"{flag}: cannot write {path}: {there} is not a writable directory"
        )


def _write_json(flag: str, path: str, content: Mapping[str, Any]) -> None:
    try:
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"{flag}: cannot write {path}: {error.strerror}") from None


if __name__ == "__main__":
    run(main)
