"""How a run evaluates its model: while it trains, and at its end."""

import math
import sys
from collections.abc import Callable
from typing import Any

import keras

from simcse_tf.core.errors import NotFinite
from simcse_tf.core.json_files import write_json
from simcse_tf.encoders.base import longest_input
from simcse_tf.encoding.model_encoder import ModelEncoder, load_encoder
from simcse_tf.evaluation import geometry, results, score_tables
from simcse_tf.evaluation.own_sets import RetrievalSet
from simcse_tf.evaluation.sts import Encoder
from simcse_tf.model.simcse import SimCSE
from simcse_tf.training import checkpoint
from simcse_tf.training.callbacks import StepCallback
from simcse_tf.training.config import Config
from simcse_tf.training.dev_data import BENCHMARK, selection, selection_score
from simcse_tf.training.divergence import diverged
from simcse_tf.training.progress import Progress
from simcse_tf.training.run_data import RunData
from simcse_tf.training.run_directory import RunDirectory, writing

Scores = dict[str, float]

UNDEFINED = (
    "the dev score is undefined, because the model finds all texts equally similar: it "
    "counts as the worst"
)


class DevEvaluation(StepCallback):
    """Evaluates the model while it trains, and saves it whenever it is the best.

    The scores join the step's logs as `dev_...`, for the callbacks after this one. One
    that is undefined, NaN, counts as the worst: its model is the best only as long as
    there is no other.

    Args:
        evaluate: Function of the model that returns its scores by name.
        select: string. The name of the score that decides.
        patience: Optional int. After so many evaluations without a better score the
            run ends. Defaults to `None`: it goes on.
        run: string. The run's directory, where the best model is saved.
        progress: A `Progress`, kept up to date by a `StepClock`.
        every: int. Steps from one evaluation to the next.
        last_step: int. The run's last step, counted from 1.

    Example:

    ```python
    DevEvaluation(evaluate, "avg", 3, "runs/mine", progress, every=125, last_step=1000)
    ```
    """

    def __init__(
        self,
        evaluate: Callable[[keras.Model], Scores],
        select: str,
        patience: int | None,
        run: str,
        progress: Progress,
        every: int,
        last_step: int,
    ):
        super().__init__(progress, every, last_step)
        self.evaluate = evaluate
        self.select = select
        self.patience = patience
        self.run = run

    def act(self, logs: dict[str, Any]) -> None:
        scores = self.evaluate(self.model)
        logs.update({f"dev_{task}": score for task, score in scores.items()})
        step, selected = self.progress.step, selection_score(scores, self.select)
        if selected == -math.inf:
            print(f"step {step}: {UNDEFINED}", file=sys.stderr)
        self.progress.count_evaluation(selected, self.patience)
        directory = RunDirectory(self.run)
        # Not that of the progress: after a kill the best model may be of a later step.
        best = directory.dev_scores
        if best is None or selected > selection_score(best, self.select):
            defined = {k: score for k, score in scores.items() if math.isfinite(score)}
            with writing(directory.best):
                checkpoint.save_best(self.run, self.model, {"step": step, **defined})


class GeometryEvaluation(StepCallback):
    """Adds alignment and uniformity to the logs; the first time after step 1.

    Args:
        evaluate: Function of the model that returns both.
        progress: A `Progress`, kept up to date by a `StepClock`.
        every: int. Steps from one evaluation to the next.
        last_step: int. The run's last step, counted from 1.

    Example:

    ```python
    GeometryEvaluation(evaluate, progress, every=125, last_step=1000)
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), figure 2
    """

    def __init__(
        self,
        evaluate: Callable[[keras.Model], Scores],
        progress: Progress,
        every: int,
        last_step: int,
    ):
        super().__init__(progress, every, last_step)
        self.evaluate = evaluate

    def is_due(self) -> bool:
        # The trajectory's first point is near the weights that training started from.
        return self.progress.step == 1 or super().is_due()

    def act(self, logs: dict[str, Any]) -> None:
        logs.update(self.evaluate(self.model))


def evaluations(
    config: Config, data: RunData, progress: Progress
) -> list[keras.callbacks.Callback]:
    """The callbacks of a run that evaluate its model; none without evaluation data.

    Args:
        config: The run's config.
        data: Its data.
        progress: A `Progress`, kept up to date by a `StepClock`.

    Example:

    ```python
    evaluations(config, data, progress)  # [DevEvaluation]
    ```
    """
    dev, last_step = data.dev, data.last_step
    if not dev:
        return []
    # A corpus takes its time.
    shown = any(isinstance(own, RetrievalSet) for own in dev.own.values())
    found: list[keras.callbacks.Callback] = [
        DevEvaluation(
            lambda model: results.evaluate(_encoder(model, shown), dev, math.nan),
            selection(config.evaluation.select, dev),
            config.evaluation.patience,
            config.output_dir,
            progress,
            config.training.evaluate_every,
            last_step,
        )
    ]
    if config.evaluation.geometry_every:
        benchmark = dev.sts[BENCHMARK]
        found.append(
            GeometryEvaluation(
                lambda model: geometry.stsb_geometry(_encoder(model), benchmark),
                progress,
                config.evaluation.geometry_every,
                last_step,
            )
        )
    return found


def final_scores(config: Config, model: SimCSE, data: RunData) -> Scores:
    """Scores a run's best model on the test data, and writes and prints the scores.

    Without evaluation data the last model becomes the best one.

    Args:
        config: The run's config.
        model: The last model.
        data: The run's data.

    Returns:
        The scores by name; empty where there are no test data.

    Raises:
        UserError: If the directory cannot be written.
        Diverged: If the last model embeds nothing.

    Example:

    ```python
    final_scores(config, model, data)["avg"]
    ```
    """
    directory = RunDirectory(config.output_dir)
    if not data.dev:
        # Without dev scores the last model counts as the best.
        _check_embeds(model, config, data.last_step)
        with writing(directory.best):
            checkpoint.save_best(config.output_dir, model)
        return {}
    encode = load_encoder(str(directory.best), progress=True)
    _report_best(directory.dev_scores, selection(config.evaluation.select, data.dev))
    if not data.test:
        return {}
    scores = results.evaluate(encode, data.test)
    with writing(directory.test_file):
        write_json(directory.test_file, scores)
    print(score_tables.format_scores(scores))
    return scores


def _encoder(model: SimCSE, progress: bool = False) -> Encoder:
    return ModelEncoder(model, longest_input(model.backbone), progress=progress)


def _check_embeds(model: SimCSE, config: Config, last_step: int) -> None:
    """Finite weights can be so large that no embedding is finite."""
    try:
        _encoder(model)(["a"])
    except NotFinite as error:
        raise diverged(error, last_step, config.output_dir) from None


def _report_best(scores: Scores | None, select: str) -> None:
    if scores:
        selected = selection_score(scores, select)
        score = f"{selected:.2f}" if math.isfinite(selected) else "no score that counts"
        print(f"best: step {scores['step']}, {score} on dev ({select})")
