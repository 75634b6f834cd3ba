"""`python -m simcse_tf.report`: a run on one page, with scores, figures, examples."""

import dataclasses
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError
from simcse_tf.core.extras import require

if TYPE_CHECKING:
    from simcse_tf.evaluation.caching import CachingEncoder
    from simcse_tf.reporting.run import Run

KINDS = ("sts", "transfer")


def report(
    path: str | Path,
    compare: str | None = None,
    data_dir: str | None = None,
    kinds: Sequence[str] = ("sts",),
    queries: str | None = None,
    corpus: str | None = None,
    output: str | Path | None = None,
) -> Path:
    """Writes a run's report: a page that holds all it shows, and `figures/` beside it.

    Everything that can be wrong with the input is checked before sentences are
    encoded. Each model encodes a sentence once, whatever it is needed for.

    Args:
        path: A run's directory, as `simcse_tf.train` writes it.
        compare: Optional other run's directory, or what `SimCSE.from_preset` takes.
        data_dir: Optional directory in SentEval's layout. Defaults to the run's
            `data.evaluation`.
        kinds: `"sts"`, `"transfer"` or both. Defaults to STS.
        queries: Optional file of sentences to retrieve for. Defaults to a few of
            STS-B's test split.
        corpus: Optional file of sentences to retrieve. Defaults to all of the STS
            tasks' test splits.
        output: The page. Defaults to `report.html` in the run's directory.

    Returns:
        Where the page is.

    Raises:
        UserError: If the run, a model or the data cannot be used, the page cannot be
            written, or the packages of `simcse-tf[eval]` are missing.
    """
    require("sklearn", "matplotlib", "jinja2")

    from simcse_tf.evaluation import retrieval
    from simcse_tf.reporting import page, pictures, results

    output = Path(output or Path(path, "report.html"))
    reported = _read_run(path)
    compared = _read_run(compare) if compare and _is_run(compare) else None
    _check_writable(output)
    data_dir = data_dir or reported.config.data.evaluation
    inputs = results.read_inputs(data_dir, kinds, queries, corpus)
    runs: dict[str, Run | None] = {reported.name: reported}
    models = {reported.name: str(reported.model)}
    if compare:
        name = _other_name(reported, compared, compare)
        runs[name] = compared
        models[name] = str(compared.model) if compared else compare

    encoders = {name: _encoder(model) for name, model in models.items()}
    measured = {}
    for name, encode in encoders.items():
        encode(inputs.sentences())
        measured[name] = results.measure(encode, inputs, transfer_progress=True)
    first, *others = measured.values()
    differences = results.differences(first, others[0], inputs.sts) if others else {}
    examples = (
        retrieval.examples(encoders, inputs.queries, inputs.corpus)
        if inputs.queries and inputs.corpus
        else []
    )
    try:
        drawn = pictures.draw(
            output.parent / "figures", runs, measured, inputs, progress=True
        )
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
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from None
    return output


def _is_run(path: str) -> bool:
    from simcse_tf.reporting.run import is_run

    return is_run(path)


def _read_run(path: str | Path) -> "Run":
    from simcse_tf.reporting.run import read_run

    found = read_run(path)
    # TensorFlow takes its time, which a mistake need not wait for.
    from simcse_tf.training import checkpoint

    try:
        progress = checkpoint.load_progress(str(path))
    except UserError:
        # The report can do without; it is --resume that cannot.
        return found
    return dataclasses.replace(found, examples=progress.examples if progress else None)


def _other_name(reported: "Run", compared: "Run | None", given: str) -> str:
    name = compared.name if compared else given
    # Runs of one name in two directories are told apart by what the user typed.
    name = given if name == reported.name else name
    return f"{name} (compared)" if name == reported.name else name


def _check_writable(output: Path) -> None:
    there = next(path for path in output.absolute().parents if path.exists())
    if output.is_dir() or not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"--output: cannot write {output}")


def _encoder(name: str) -> "CachingEncoder":
    from simcse_tf.encoders.base import longest_input
    from simcse_tf.encoding.bulk import encoder
    from simcse_tf.evaluation.caching import CachingEncoder
    from simcse_tf.model.simcse import SimCSE

    model = SimCSE.from_preset(name)
    length = longest_input(model.backbone)
    return CachingEncoder(encoder(model, length, progress=True, normalize=False))


def main() -> None:
    arguments = _parser().parse_args()
    kinds = [kind.strip().lower() for kind in arguments.tasks.split(",")]
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(
                f"--tasks: expected sts, transfer or sts,transfer, "
                f"received {arguments.tasks}"
            )
    written = report(
        arguments.run,
        arguments.compare,
        arguments.data,
        kinds,
        arguments.queries,
        arguments.corpus,
        arguments.output,
    )
    print(f"{written}: {written.stat().st_size / 1e6:.2f} MB")


def _parser() -> Parser:
    parser = Parser("simcse_tf.report", description="A run's report as one HTML page.")
    parser.add_argument("--run", required=True, metavar="RUN", help="what train wrote")
    parser.add_argument(
        "--compare", metavar="RUN|MODEL", help="another run, or any model"
    )
    parser.add_argument(
        "--data", metavar="DIR", help="SentEval's layout; default: the run's own"
    )
    parser.add_argument("--tasks", default="sts", help="sts, transfer or sts,transfer")
    parser.add_argument("--queries", metavar="FILE", help="to retrieve for, one a line")
    parser.add_argument("--corpus", metavar="FILE", help="to retrieve, one a line")
    parser.add_argument(
        "--output", metavar="FILE", help="default: report.html in the run's directory"
    )
    return parser


if __name__ == "__main__":
    run(main)
