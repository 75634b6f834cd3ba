"""From a run's directory to its report: read, measure, draw, write."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.errors import UserError
from simcse_tf.core.extras import require
from simcse_tf.core.outputs import output_file, writing_output
from simcse_tf.encoding.model_encoder import load_encoder
from simcse_tf.evaluation import results, retrieval
from simcse_tf.evaluation.caching import CachingEncoder
from simcse_tf.evaluation.tasks import Data
from simcse_tf.reporting import page
from simcse_tf.reporting.inputs import read_inputs
from simcse_tf.reporting.measured import measure
from simcse_tf.reporting.run import ReportedRun, read_run
from simcse_tf.training.progress import load_progress
from simcse_tf.training.run_directory import RunDirectory


def report(
    path: str | Path,
    compare: str | None = None,
    data: Data | None = None,
    kinds: Sequence[str] = ("sts", "own"),
    queries: str | None = None,
    corpus: str | None = None,
    output: str | Path | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a run's report: one page, and a directory `figures/` next to it.

    Everything that can be wrong with the input is checked before sentences are
    encoded. Each model encodes a sentence once, whatever it is needed for.

    Args:
        path: A run's directory, as `simcse_tf.train` writes it.
        compare: Optional other run's directory, or what `SimCSE.from_preset` takes.
        data: Optional path, or paths by name; see `tasks.find_data`. Defaults to the
            run's `data.evaluation`.
        kinds: Some of `"sts"`, `"own"` and `"transfer"`. Defaults to the first two.
        queries: Optional file of sentences to retrieve for. Defaults to a few of
            STS-B's test split.
        corpus: Optional file of sentences to retrieve. Defaults to all of the STS
            tasks' test splits.
        output: The page. Defaults to `report.html` in the run's directory.
        reading: Optional dictionary. Arguments of `load_encoder`, where `compare` is
            not a run.

    Returns:
        Where the page is.

    Raises:
        UserError: If the run, a model or the data cannot be used, the page cannot be
            written, or the packages of `simcse-tf[eval]` are missing.

    Example:

    ```python
    report("runs/mine", compare="runs/other", data="senteval")
    ```
    """
    require("sklearn", "matplotlib", "jinja2")
    # It imports matplotlib.
    from simcse_tf.reporting import pictures

    reported = _read_run(path)
    compared = (
        _read_run(compare) if compare and RunDirectory(compare).is_run() else None
    )
    reading = {key: value for key, value in (reading or {}).items() if value}
    if reading and (compared or not compare):
        raise UserError(
            "--pooling, --max-length and --prompt are for a MODEL that --compare "
            "names: a run's model says itself how it is read"
        )
    run = RunDirectory(path)
    read = [reported.model, compared.model if compared else compare, queries, corpus]
    read += [run.config_file, run.metrics_file, run.test_file]
    output = output_file("--output", output or run.path / "report.html", read)
    where = "--data" if data else "data.evaluation"
    data = data or reported.config.data.evaluation
    inputs = read_inputs(data, kinds, queries, corpus, where)
    runs: dict[str, ReportedRun | None] = {reported.name: reported}
    models = {reported.name: str(reported.model)}
    if compare:
        name = _other_name(reported, compared, compare)
        runs[name] = compared
        models[name] = str(compared.model) if compared else compare

    encoders = {
        name: _caching_encoder(model, **({} if runs[name] else reading))
        for name, model in models.items()
    }
    for found in filter(None, runs.values()):
        _check_still_best(found)
    measured = {name: measure(encode, inputs) for name, encode in encoders.items()}
    first, *others = (each.results for each in measured.values())
    differences = results.compare(first, others[0], inputs.tasks) if others else {}
    examples = (
        retrieval.examples(encoders, inputs.queries, inputs.corpus)
        if inputs.queries and inputs.corpus
        else []
    )
    with writing_output("--output", output):
        figures = output.parent / "figures"
        drawn = pictures.draw(figures, runs, measured, inputs, progress=True)
        text = page.render(
            page.Report(
                runs,
                measured,
                inputs,
                differences,
                examples,
                drawn,
                datetime.now().astimezone(),
            )
        )
        with atomic_write(output) as temporary:
            temporary.write_text(text, "utf-8")
    return output


def _read_run(path: str | Path) -> ReportedRun:
    found = read_run(path)
    try:
        progress = load_progress(str(path))
    except UserError:
        # The report can do without; only --resume needs the checkpoint.
        return found
    if progress is None:
        return found
    return dataclasses.replace(found, examples=progress.examples, ended=progress.ended)


def _check_still_best(run: ReportedRun) -> None:
    """A run that goes on may have replaced its model after its scores were read."""
    if repr(RunDirectory(run.path).dev_scores or {}) != repr(run.dev):
        raise UserError(
            f"the run {run.path} has a better model since the report began: begin again"
        )


def _other_name(reported: ReportedRun, compared: ReportedRun | None, given: str) -> str:
    name = compared.name if compared else given
    # Where two directories have one name, what the user typed tells them apart.
    name = given if name == reported.name else name
    return f"{name} (compared)" if name == reported.name else name


def _caching_encoder(model: str, **reading: Any) -> CachingEncoder:
    return CachingEncoder(
        load_encoder(model, progress=True, normalize=False, **reading)
    )
