"""The report as one HTML page that needs no other file."""

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

from simcse_tf.data.named import Train, entries, shown_train
from simcse_tf.evaluation import sts, transfer
from simcse_tf.evaluation.retrieval import Example
from simcse_tf.evaluation.significance import Comparison
from simcse_tf.reporting.inputs import Inputs
from simcse_tf.reporting.measured import Measured, SubsetRow, subset_rows
from simcse_tf.reporting.run import ConfigRow, ReportedRun, config_rows

if TYPE_CHECKING:
    from simcse_tf.reporting.pictures import Picture

AVERAGE = "avg"
_TEMPLATE = "page.html.j2"
_SIGNIFICANT = 0.05
_PACKAGES = ("tensorflow", "keras", "keras-hub", "numpy", "scipy", "scikit-learn")
_KINDS = {".txt": "sentences", ".csv": "rows", ".tsv": "rows", ".jsonl": "rows"}


@dataclass(frozen=True)
class Report:
    """Everything the page shows.

    Attributes:
        runs: The run of each model by its name, the reported one first; `None` for a
            model that is compared and is no run.
        results: What was measured of each model by its name.
        inputs: What it was measured on.
        differences: The reported model's STS scores less the compared one's.
        examples: Retrieval examples.
        pictures: The figures by name.
        written: When.

    Example:

    ```python
    report = Report(runs, measured, inputs, {}, [], pictures, datetime.now())
    Path("report.html").write_text(render(report))
    ```
    """

    runs: Mapping[str, ReportedRun | None]
    results: Mapping[str, Measured]
    inputs: Inputs
    differences: Mapping[str, Comparison]
    examples: list[Example]
    pictures: "Mapping[str, Picture]"
    written: datetime

    @property
    def name(self) -> str:
        return next(iter(self.runs))

    @property
    def compared(self) -> str | None:
        return next(iter(list(self.runs)[1:]), None)

    @property
    def run(self) -> ReportedRun:
        run = self.runs[self.name]
        assert run is not None
        return run

    @property
    def compared_run(self) -> ReportedRun | None:
        return self.runs[self.compared] if self.compared else None

    @property
    def result(self) -> Measured:
        return self.results[self.name]

    @property
    def difference(self) -> Comparison | None:
        return self.differences.get(AVERAGE)

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        score = self.result.spearman.get(AVERAGE)
        if score is None:
            return "No STS scores: see below."
        count = len(self.inputs.tasks.sts)
        tasks = f"Average of {count} STS tasks" if count > 1 else "STS"
        average = (
            f"{tasks}: {number(score.value)} "
            f"(95% interval {number(score.low)} to {number(score.high)})"
        )
        if self.difference is None or self.compared is None:
            return f"{average}."
        return f"{average}. {_compared(self.difference, self.compared)}"

    @property
    def without_sts(self) -> str:
        """Why there are no STS scores."""
        if self.run.config.data.evaluation or self.inputs.tasks.transfer:
            return "Not evaluated: --tasks leaves STS out."
        return "Not evaluated: the run has no evaluation data. Pass --data DIR."

    @property
    def best_score(self) -> str:
        """What the best model was chosen by."""
        dev = self.run.dev
        task = "STSBenchmark" if "STSBenchmark" in dev else AVERAGE
        if not math.isfinite(dev.get(task, math.nan)):
            return f"{label(task)} dev undefined"
        return f"{label(task)} dev {number(dev[task])}"

    @cached_property
    def subsets(self) -> list[SubsetRow]:
        models = [measured.results for measured in self.results.values()]
        return subset_rows(models, self.inputs.tasks.sts)

    @property
    def transfer_scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """Accuracies by split and model."""
        return {
            split: {
                name: transfer.scores(result.transfer, split)
                for name, result in self.results.items()
                if result.transfer
            }
            for split in ("test", "dev")
        }

    @property
    def config(self) -> list[ConfigRow]:
        return config_rows(self.run, self.compared_run)

    @property
    def facts(self) -> dict[str, str]:
        """The run's data and speed."""
        run, config = self.run, self.run.config
        batch_size = config.training.batch_size
        facts = {
            "Started from": config.model.preset,
            "Training data": shown_train(config.data.train),
        }
        if run.examples:
            facts["Size"] = f"{run.examples:,} {_kind(config.data.train)}"
        if run.steps:
            of = f" of {run.last_step:,}" if run.last_step else ""
            facts["Steps"] = f"{run.steps:,}{of}, {batch_size:,} examples each"
        if run.steps and run.examples:
            facts["Epochs"] = f"{run.steps * batch_size / run.examples:.2f}"
        if run.rate:
            facts["Throughput"] = f"{run.rate:,.0f} examples a second (median step)"
            facts["Time of training"] = (
                f"{duration(run.seconds)} (steps alone, without evaluations)"
            )
        return facts

    @property
    def versions(self) -> dict[str, str]:
        from simcse_tf import __version__

        return {
            "simcse_tf": __version__,
            "Python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
            "Platform": platform.platform(),
            "CPUs": str(os.cpu_count()),
        }


def render(report: Report) -> str:
    """The report as HTML.

    Example:

    ```python
    Path("report.html").write_text(render(report))
    ```
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "number": number,
        "signed": signed,
        "p_value": p_value,
        "label": label,
        "duration": duration,
    }
    template = environment.get_template(_TEMPLATE)
    return template.render(report=report)


def number(value: float, digits: int = 2) -> str:
    """Decimals with a true minus sign; a dash for NaN and infinity.

    Example:

    ```python
    number(-1.5)  # "−1.50"
    ```
    """
    if not math.isfinite(value):
        return "–"
    # Rounded to nothing, a small negative number would keep its sign.
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    """Decimals with a sign: a plus, a true minus sign, or none for zero.

    Example:

    ```python
    signed(0.5)  # "+0.50"
    ```
    """
    text = number(value, digits)
    return f"+{text}" if value > 0 else text


def p_value(value: float) -> str:
    """Three decimals, or the bound below which a p-value is not printed.

    Example:

    ```python
    p_value(0.0004)  # "< 0.001"
    ```
    """
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def label(task: str) -> str:
    """A task's name in the paper's tables.

    Example:

    ```python
    label("STSBenchmark")  # "STS-B"
    ```
    """
    return {**transfer.LABELS, **sts.LABELS}.get(task, task)


def duration(seconds: float) -> str:
    """A time in words: seconds, minutes and seconds, or hours and minutes.

    Example:

    ```python
    duration(75)  # "1 min 15 s"
    ```
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def _compared(difference: Comparison, name: str) -> str:
    tested = (
        f"95% interval of the difference {signed(difference.low)} to "
        f"{signed(difference.high)}, p\u00a0=\u00a0{p_value(difference.p_value)}"
    )
    points = difference.difference
    if difference.p_value >= _SIGNIFICANT:
        return f"No significant difference from {name}: {signed(points)} ({tested})."
    side = "above" if points > 0 else "below"
    return f"That is {number(abs(points))} points {side} {name} ({tested})."


def _kind(train: Train) -> str:
    """What the examples of a `data.train` are."""
    suffixes = {os.path.splitext(path)[1].lower() for path, _ in entries(train)}
    kinds = {_KINDS.get(suffix, "examples") for suffix in suffixes}
    return kinds.pop() if len(kinds) == 1 else "examples"
