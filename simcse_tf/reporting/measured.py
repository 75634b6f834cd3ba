"""What a report measures of one model: scores, geometry, and scores by subset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from simcse_tf.evaluation import results, sts
from simcse_tf.evaluation.caching import CachingEncoder
from simcse_tf.evaluation.geometry import Geometry, measure_geometry
from simcse_tf.evaluation.results import ModelResults
from simcse_tf.evaluation.significance import Estimate
from simcse_tf.evaluation.sts import Pairs
from simcse_tf.evaluation.transfer import Result
from simcse_tf.reporting.inputs import Inputs


@dataclass(frozen=True)
class Measured:
    """What was measured of one model.

    Attributes:
        results: Its STS scores by Spearman's correlation, and its transfer tasks.
        pearson: The STS scores by Pearson's correlation, and their mean as `"avg"`.
        geometry: On STS-B dev, where there is one.

    Example:

    ```python
    measure(encode, read_inputs("senteval", ["sts"])).spearman["avg"].value
    ```
    """

    results: ModelResults
    pearson: Mapping[str, Estimate]
    geometry: Geometry | None

    @property
    def spearman(self) -> Mapping[str, Estimate]:
        return self.results.estimates

    @property
    def own(self) -> Mapping[str, Estimate]:
        return self.results.own

    @property
    def transfer(self) -> Mapping[str, Result]:
        return self.results.transfer


class SubsetRow(NamedTuple):
    """One line of the scores by subset, or one aggregation of a task's subsets.

    Example:

    ```python
    SubsetRow("STS13", "FNWN", 189, [61.2], is_total=False)
    ```
    """

    task: str
    name: str
    pairs: int
    scores: list[float]
    is_total: bool


def measure(encode: CachingEncoder, inputs: Inputs) -> Measured:
    """Measures one model.

    Args:
        encode: The model's encoder, without normalization.
        inputs: What to measure on.

    Raises:
        UserError: A transfer task received embeddings with NaN or infinity.

    Example:

    ```python
    measure(CachingEncoder(encode), read_inputs("senteval", ["sts"]))
    ```
    """
    # In one call, which an encoder can sort by length.
    encode(inputs.sentences())
    reached = results.measure(encode, inputs.tasks, progress=True)
    pairs = inputs.tasks.sts
    return Measured(
        reached,
        results.estimates(reached.similarities, pairs, "pearson"),
        measure_geometry(encode, inputs.benchmark) if inputs.benchmark else None,
    )


def subset_rows(
    models: Sequence[ModelResults], pairs: Mapping[str, Pairs]
) -> list[SubsetRow]:
    """Spearman of every subset of the tasks that have several, and the aggregations.

    Args:
        models: What each model reached.
        pairs: The pairs of each STS task by its name.

    Example:

    ```python
    subset_rows([measured.results], inputs.tasks.sts)[0].name  # "FNWN"
    ```
    """
    rows = []
    for task, task_pairs in pairs.items():
        if len(task_pairs.subsets) < 2:
            continue
        found = [
            sts.all_scores(model.similarities[task], task_pairs) for model in models
        ]
        for name, part in task_pairs.subsets.items():
            scores = [each["subsets"][name]["spearman"] for each in found]
            rows.append(SubsetRow(task, name, part.stop - part.start, scores, False))
        for aggregation in sts.AGGREGATIONS:
            scores = [each["spearman"][aggregation] for each in found]
            rows.append(SubsetRow(task, aggregation, len(task_pairs), scores, True))
    return rows
