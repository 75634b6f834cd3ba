"""The data that choose the best model and score it, and by which score it is chosen."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from simcse_tf.core.errors import UserError
from simcse_tf.evaluation import own_sets
from simcse_tf.evaluation.own_sets import OwnSet, Triplets
from simcse_tf.evaluation.sts import Pairs
from simcse_tf.evaluation.tasks import Tasks, find_data, load_tasks
from simcse_tf.training.config import Config

BENCHMARK = "STSBenchmark"
AVERAGE = "avg"


def evaluation_data(config: Config) -> tuple[Tasks, Tasks]:
    """Reads the dev and the test splits of a run's `data.evaluation`.

    Args:
        config: The run's config.

    Returns:
        What chooses the best model, and what it is scored on at the end; both empty
        where there are no evaluation data.

    Raises:
        UserError: If the data cannot be read or have no dev split, or the config asks
            for a score that they do not have.

    Example:

    ```python
    dev, test = evaluation_data(load_config("configs/sup.json"))
    ```
    """
    where, named = "data.evaluation", config.data.evaluation
    if named is None:
        return Tasks(), Tasks()
    found = find_data(named, where)
    dev, test = (
        load_tasks(found, available, split) if available else Tasks()
        for split in ("dev", "test")
        for available in [found.available(split)]
    )
    if not dev:
        raise UserError(
            f"{where}: expected a dev split (STS/STSBenchmark, SICK, dev.csv or "
            f"qrels/dev.tsv) to choose the best model by, received {named}"
        )
    if config.evaluation.geometry_every and BENCHMARK not in dev.sts:
        raise UserError(
            f"evaluation.geometry_every: expected STS/STSBenchmark in {named}"
        )
    selection(config.evaluation.select, dev)
    return dev, test if config.evaluation.test else Tasks()


def selection(select: str | None, dev: Tasks) -> str:
    """The name of the score that chooses the best model.

    Args:
        select: Optional string, the config's `evaluation.select`. Defaults to STS-B,
            as in the paper, and without it to the mean.
        dev: The dev data.

    Raises:
        UserError: If no score has that name.

    Example:

    ```python
    selection("beir:mrr@10", dev)
    ```
    """
    names = [*dev.sts]
    for name, own in dev.own.items():
        names += own_sets.score_names(name, own)
    names += [own_sets.AVERAGE, AVERAGE] if dev.own else [AVERAGE]
    if select is None:
        return default_selection(names)
    if select not in names:
        raise UserError(
            f"evaluation.select: expected one of {', '.join(names)}, received {select}"
        )
    return select


def default_selection(names: Any) -> str:
    """The paper selects by STS-B; without it the mean decides.

    Example:

    ```python
    default_selection({"STSBenchmark": 82.1, "avg": 79.0})  # "STSBenchmark"
    ```
    """
    return BENCHMARK if BENCHMARK in names else AVERAGE


def selection_score(scores: Mapping[str, float], name: str) -> float:
    """What decides which model is the best; below all others where it is undefined.

    Args:
        scores: Dev scores by name. One that is undefined is NaN or not there.
        name: As `selection` returns it.

    Example:

    ```python
    selection_score({"STSBenchmark": 82.1, "avg": 79.0}, "avg")  # 79.0
    ```
    """
    score = scores.get(name, math.nan)
    return score if math.isfinite(score) else -math.inf


def fingerprint(config: Config, dev: Tasks) -> str:
    """What tells the data that choose the best model from others; empty without.

    Example:

    ```python
    fingerprint(config, evaluation_data(config)[0])  # "sha256 ..."
    ```
    """
    if not dev:
        return ""
    name = selection(config.evaluation.select, dev)
    own, of_own = name.partition(":")[0], dev.own
    chosen: Mapping[str, OwnSet] = dev.sts or of_own
    if name in dev.sts:
        chosen = {name: dev.sts[name]}
    elif own in of_own:
        chosen = {own: of_own[own]}
    elif name == own_sets.AVERAGE:
        chosen = of_own
    values = [[task, *_values(chosen[task])] for task in sorted(chosen)]
    return f"sha256 {hashlib.sha256(json.dumps(values).encode()).hexdigest()}"


def _values(own: OwnSet) -> list[Any]:
    if isinstance(own, Pairs):
        return [*own.sentences_a, *own.sentences_b, *map(float, own.scores)]
    if isinstance(own, Triplets):
        return own_sets.texts_of(own)
    return [own.queries, own.documents, own.relevant]
