"""What a model's embeddings give: scores with intervals, geometry, neighbours."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.evaluation import geometry, retrieval, significance, sts, transfer
from simcse_tf.evaluation.caching import CachingEncoder
from simcse_tf.evaluation.significance import Comparison
from simcse_tf.evaluation.sts import Pairs
from simcse_tf.evaluation.transfer import Examples, Result

AVERAGE = "avg"
BENCHMARK = "STSBenchmark"
_QUERIES = 5
_SEED = 42


@dataclass(frozen=True)
class Inputs:
    """Everything that is read from files before a model is loaded.

    Attributes:
        sts: The pairs of each STS task's test split.
        benchmark: STS-B's dev pairs, on which geometry is measured.
        transfer: The examples of each transfer task.
        queries: Sentences to retrieve for; may be empty.
        corpus: Sentences to retrieve.
    """

    sts: dict[str, Pairs] = field(default_factory=dict)
    benchmark: Pairs | None = None
    transfer: dict[str, dict[str, Examples]] = field(default_factory=dict)
    queries: list[str] = field(default_factory=list)
    corpus: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """Every distinct sentence outside the transfer tasks."""
        pairs = [*self.sts.values(), *([self.benchmark] if self.benchmark else [])]
        return list(dict.fromkeys([*_sentences(pairs), *self.queries, *self.corpus]))


class Estimate(NamedTuple):
    """A score with its 95% interval, times 100."""

    value: float
    low: float
    high: float


class Geometry(NamedTuple):
    """How the embeddings of STS-B lie; alignment is NaN where no pair is positive."""

    alignment: float
    uniformity: float
    average_cosine: float
    cosines: np.ndarray
    singular_values: np.ndarray


@dataclass(frozen=True)
class Results:
    """What was measured of one model.

    Attributes:
        similarities: Cosine similarity of each STS task's pairs.
        spearman: The score of each task, and their mean as `"avg"`.
        pearson: The same of Pearson's correlation.
        geometry: On STS-B dev, where there is one.
        transfer: The results of the transfer tasks asked for.
    """

    similarities: dict[str, np.ndarray]
    spearman: dict[str, Estimate]
    pearson: dict[str, Estimate]
    geometry: Geometry | None
    transfer: dict[str, Result]


class SubsetRow(NamedTuple):
    """One line of the scores by subset, or of an aggregation of them."""

    task: str
    name: str
    pairs: int
    scores: list[float]
    is_total: bool


def read_inputs(
    data_dir: str | None,
    kinds: Sequence[str],
    queries: str | None = None,
    corpus: str | None = None,
) -> Inputs:
    """Reads what the report measures on.

    Args:
        data_dir: A directory in SentEval's layout; `None` where there is none.
        kinds: `"sts"`, `"transfer"` or both.
        queries: Optional file of sentences. Defaults to some of STS-B's test split.
        corpus: Optional file of sentences. Defaults to every sentence of the STS
            tasks' test splits.

    Raises:
        UserError: A file is missing or malformed, or the directory holds none of the
            tasks asked for.
    """
    tasks: dict[str, Pairs] = {}
    benchmark, examples = None, {}
    if data_dir and "sts" in kinds:
        tasks = _read_sts(data_dir)
        if BENCHMARK in sts.available_tasks(data_dir, "dev"):
            benchmark = sts.load_task(data_dir, BENCHMARK, "dev")
    if data_dir and "transfer" in kinds:
        examples = transfer.load_tasks(data_dir, transfer.TASKS)
    given = {
        "queries": retrieval.load_sentences(queries) if queries else [],
        "corpus": retrieval.load_sentences(corpus) if corpus else [],
    }
    if not tasks and len(missing := [name for name in given if not given[name]]) == 1:
        raise UserError(
            f"--{missing[0]}: expected a file, since no STS task is loaded to take "
            "sentences from"
        )
    sentences = list(dict.fromkeys(_sentences(tasks.values())))
    return Inputs(
        tasks,
        benchmark,
        examples,
        given["queries"] or _some_queries(tasks),
        given["corpus"] or sentences,
    )


def measure(
    encode: CachingEncoder, inputs: Inputs, transfer_progress: bool = False
) -> Results:
    """Everything that is said of one model by itself.

    Args:
        encode: The model's encoder, without normalization.
        inputs: What to measure on.
        transfer_progress: bool. Whether to show the transfer tasks' progress.
    """
    similarities = sts.similarities(encode, inputs.sts) if inputs.sts else {}
    return Results(
        similarities,
        estimates(similarities, inputs.sts, "spearman"),
        estimates(similarities, inputs.sts, "pearson"),
        _geometry(encode, inputs.benchmark) if inputs.benchmark else None,
        transfer.evaluate_examples(encode, inputs.transfer, progress=transfer_progress)
        if inputs.transfer
        else {},
    )


def estimates(
    similarities: Mapping[str, np.ndarray], loaded: Mapping[str, Pairs], metric: str
) -> dict[str, Estimate]:
    """Each task's score and their mean, with bootstrap intervals."""
    if not similarities:
        return {}
    scores = {
        task: sts.score(similarity, loaded[task], metric)
        for task, similarity in similarities.items()
    }
    found = {
        task: Estimate(
            scores[task],
            *significance.confidence_interval(
                similarity, loaded[task].scores, metric=metric
            ),
        )
        for task, similarity in similarities.items()
    }
    interval = significance.confidence_interval(
        *_joined(similarities, loaded),
        metric=metric,
        parts=sts.average_parts(loaded.values()),
    )
    found[AVERAGE] = Estimate(sts.with_average(scores)[AVERAGE], *interval)
    return found


def differences(
    one: Results, other: Results, loaded: Mapping[str, Pairs]
) -> dict[str, Comparison]:
    """How far one model's Spearman is above another's, by task and on average."""
    if not loaded:
        return {}
    found = {
        task: significance.compare(
            one.similarities[task], other.similarities[task], pairs.scores
        )
        for task, pairs in loaded.items()
    }
    a, gold = _joined(one.similarities, loaded)
    b, _ = _joined(other.similarities, loaded)
    found[AVERAGE] = significance.compare(
        a, b, gold, parts=sts.average_parts(loaded.values())
    )
    return found


def subset_rows(
    models: Sequence[Results], loaded: Mapping[str, Pairs]
) -> list[SubsetRow]:
    """Spearman of every subset of the tasks that have several, and the aggregations."""
    rows = []
    for task, pairs in loaded.items():
        if len(pairs.subsets) < 2:
            continue
        found = [sts.all_scores(model.similarities[task], pairs) for model in models]
        for name, part in pairs.subsets.items():
            scores = [each["subsets"][name]["spearman"] for each in found]
            rows.append(SubsetRow(task, name, part.stop - part.start, scores, False))
        for aggregation in sts.AGGREGATIONS:
            scores = [each["spearman"][aggregation] for each in found]
            rows.append(SubsetRow(task, aggregation, len(pairs), scores, True))
    return rows


def _read_sts(data_dir: str) -> dict[str, Pairs]:
    tasks = sts.available_tasks(data_dir)
    if not tasks:
        raise UserError(
            f"no STS task in {data_dir}: expected a SentEval directory, one that "
            "holds STS/ or SICK/"
        )
    return sts.load_tasks(data_dir, tasks)


def _some_queries(tasks: Mapping[str, Pairs]) -> list[str]:
    chosen = [tasks[BENCHMARK]] if BENCHMARK in tasks else list(tasks.values())
    sentences = list(dict.fromkeys(_sentences(chosen)))
    return random.Random(_SEED).sample(sentences, min(_QUERIES, len(sentences)))


def _sentences(tasks: Iterable[Pairs]) -> Iterable[str]:
    for pairs in tasks:
        yield from pairs.sentences_a
        yield from pairs.sentences_b


def _joined(
    similarities: Mapping[str, np.ndarray], loaded: Mapping[str, Pairs]
) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.concatenate([similarities[task] for task in loaded]),
        np.concatenate([pairs.scores for pairs in loaded.values()]),
    )


def _geometry(encode: CachingEncoder, pairs: Pairs) -> Geometry:
    embeddings = encode(list(dict.fromkeys(_sentences([pairs]))))
    positive = pairs.scores > geometry.POSITIVE
    a, b = encode(pairs.sentences_a), encode(pairs.sentences_b)
    return Geometry(
        geometry.alignment(a[positive], b[positive]) if positive.any() else np.nan,
        geometry.uniformity(embeddings),
        geometry.average_cosine(embeddings),
        sts.cosine_similarity(a, b),
        geometry.singular_values(embeddings),
    )
