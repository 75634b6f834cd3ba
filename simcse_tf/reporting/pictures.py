"""The report's figures: files to take elsewhere, and images inside the page."""

import base64
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from simcse_tf import figures
from simcse_tf.evaluation.sts import LABELS
from simcse_tf.reporting.inputs import Inputs
from simcse_tf.reporting.measured import Measured
from simcse_tf.reporting.run import ReportedRun


class Picture(NamedTuple):
    """A figure as the page shows it.

    Attributes:
        light: `data:` URI for a light page.
        dark: `data:` URI for a dark one.
        caption: What it shows and how to read it.
        alt: What one sees, in words.

    Example:

    ```python
    Picture("data:...", "data:...", "Scores by task.", "A plot of scores.")
    ```
    """

    light: str
    dark: str
    caption: str
    alt: str


class _Plan(NamedTuple):
    name: str
    draw: Callable[..., Any]
    caption: str
    alt: str


def draw(
    directory: Path,
    runs: Mapping[str, ReportedRun | None],
    results: Mapping[str, Measured],
    inputs: Inputs,
    progress: bool = False,
) -> dict[str, Picture]:
    """Draws every figure that the data allow; each is a PNG and an SVG file too.

    Args:
        directory: Where the files go; made if missing.
        runs: The run of each model by its name, `None` for one that is no run.
        results: What was measured of each model by its name.
        inputs: What it was measured on.
        progress: bool. Whether to show a progress bar on stderr.

    Raises:
        OSError: A file cannot be written.

    Example:

    ```python
    draw(Path("figures"), runs, measured, inputs)["sts_scores"].caption
    ```
    """
    from tqdm import tqdm

    plans = list(_plans(runs, results, inputs))
    pictures = {}
    for plan in tqdm(plans, desc="figures", unit="figure", disable=not progress):
        light, dark = (plan.draw(theme=theme) for theme in ("light", "dark"))
        figures.save(light, directory / plan.name)
        pictures[plan.name] = Picture(_uri(light), _uri(dark), plan.caption, plan.alt)
    return pictures


def trajectories(
    runs: Mapping[str, ReportedRun | None], results: Mapping[str, Measured]
) -> dict[str, figures.Trajectory]:
    """What each run logged of its geometry, or else the point of its model.

    The point of a run stands at its best model's step, a plain model's at 0.

    Example:

    ```python
    figures.trajectory(trajectories(runs, measured))
    ```
    """
    found = {}
    for name, run in runs.items():
        logged = [
            (row["step"], row["alignment"], row["uniformity"])
            for row in (run.rows if run else [])
            if None not in (row.get("alignment"), row.get("uniformity"))
        ]
        now = results[name].geometry
        if not logged and now and math.isfinite(now.alignment):
            step = (run.dev.get("step") or run.steps) if run else 0
            logged = [(step, now.alignment, now.uniformity)]
        if logged:
            found[name] = figures.Trajectory(*map(list, zip(*logged, strict=True)))
    return found


def _plans(
    runs: Mapping[str, ReportedRun | None],
    results: Mapping[str, Measured],
    inputs: Inputs,
) -> Iterator[_Plan]:
    if scores := {n: r.spearman for n, r in results.items() if r.spearman}:
        yield _sts_plan(scores)
    if logs := {name: run.rows for name, run in runs.items() if run and run.rows}:
        reported = next(filter(None, runs.values()))
        yield _training_plan(logs, reported.selection)
    if paths := trajectories(runs, results):
        yield _trajectory_plan(paths)
    geometry = {n: r.geometry for n, r in results.items() if r.geometry}
    if geometry and inputs.benchmark:
        gold = inputs.benchmark.scores
        cosines = {name: (g.cosines, gold) for name, g in geometry.items()}
        yield _Plan(
            "cosine_density",
            partial(figures.cosine_density, cosines),
            "How cosine similarity is distributed over the pairs of each human rating; "
            "a bar marks the median. The further apart the ratings lie and the less "
            "they overlap, the better similarity tells them apart.",
            "Density of cosine similarity by human rating. "
            + _each({n: _medians(*pair) for n, pair in cosines.items()}),
        )
        spectra = {name: g.singular_values for name, g in geometry.items()}
        yield _Plan(
            "singular_values",
            partial(figures.singular_values, spectra),
            "Singular values of the sentences' unit vectors, relative to the largest. "
            "The flatter the curve, the more evenly the directions of the space are "
            "used.",
            "Singular values, falling. "
            + _each(
                {
                    name: f"the tenth of {len(values)} is "
                    f"{values[min(9, len(values) - 1)] / values[0]:.2f} of the largest"
                    for name, values in spectra.items()
                }
            ),
        )


def _sts_plan(estimates: Mapping[str, Any]) -> _Plan:
    scores = {
        name: {task: estimate.value for task, estimate in tasks.items()}
        for name, tasks in estimates.items()
    }
    intervals = {
        name: {task: (e.low, e.high) for task, e in tasks.items()}
        for name, tasks in estimates.items()
    }
    return _Plan(
        "sts_scores",
        partial(figures.sts_scores, scores, intervals),
        "Spearman's correlation by task, with its 95% bootstrap interval.",
        "Scores by task. "
        + _each(
            {
                name: ", ".join(
                    f"{LABELS.get(task, task)} {value:.2f}"
                    for task, value in tasks.items()
                )
                for name, tasks in scores.items()
            }
        ),
    )


def _training_plan(logs: Mapping[str, list[dict[str, float]]], selection: str) -> _Plan:
    ends = {
        name: f"from step {rows[0]['step']} to {rows[-1]['step']} the loss went from "
        f"{rows[0].get('loss', math.nan):.3g} to {rows[-1].get('loss', math.nan):.3g}"
        for name, rows in logs.items()
    }
    return _Plan(
        "training_curves",
        partial(figures.training_curves, logs, selection=selection),
        "Loss, dev score, learning rate and throughput by training step; a star marks "
        "the best dev score, whose model is the one reported.",
        "Training curves. " + _each(ends),
    )


def _trajectory_plan(paths: Mapping[str, figures.Trajectory]) -> _Plan:
    return _Plan(
        "trajectory",
        partial(figures.trajectory, paths),
        "Alignment (how near positives are) over uniformity (how evenly sentences "
        "spread), by training step where the run logged them. Lower is better on "
        "both axes: towards the lower left.",
        "Alignment over uniformity. "
        + _each(
            {
                name: f"from uniformity {path.uniformity[0]:.2f} and alignment "
                f"{path.alignment[0]:.3f} to {path.uniformity[-1]:.2f} and "
                f"{path.alignment[-1]:.3f}"
                for name, path in paths.items()
            }
        ),
    )


def _medians(cosines: Any, gold: Any) -> str:
    import numpy as np

    low, high = cosines[gold < 1], cosines[gold >= 4]
    if not len(low) or not len(high):
        return f"the median of all pairs is {np.median(cosines):.2f}"
    return (
        f"the median is {np.median(low):.2f} for ratings 0 to 1 and "
        f"{np.median(high):.2f} for 4 to 5"
    )


def _each(parts: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {part}" for name, part in parts.items()) + "."


def _uri(figure: Any) -> str:
    svg = figures.to_svg(figure).encode()
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
