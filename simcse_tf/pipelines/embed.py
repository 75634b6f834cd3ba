"""`pipeline embed`: files to embeddings, shard by shard."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simcse_tf.core.errors import UserError
from simcse_tf.core.locks import locked
from simcse_tf.core.outputs import output_directory, writing_output
from simcse_tf.data.file_formats import QUOTED, UNQUOTED
from simcse_tf.encoding.embedding_files import FLOAT32, VALUES

if TYPE_CHECKING:
    from simcse_tf.pipelines.job import Job
    from simcse_tf.pipelines.sources import ModelSource

SUMMARY = "embed files with an exported or a served model, shard by shard"
PARQUET, JSONL, TFRECORD = "parquet", "jsonl", "tfrecord"
# As `simcse_tf.exporting.signatures` has them, which imports TensorFlow.
ROLES = ("query", "document")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `embed`.

    Args:
        parser: The command's parser.

    Example:

    ```python
    add_flags(parser)
    ```
    """
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--saved-model", metavar="DIR", help="a version that export wrote, or DIR above"
    )
    model.add_argument("--target", metavar="HOST:PORT", help="a server's gRPC address")
    parser.add_argument(
        "--prompt", choices=ROLES, help="the model's prompt of that name before texts"
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="FILE",
        help="files, globs: a text a line, or .csv, .tsv, .jsonl, .parquet, .tfrecord",
    )
    parser.add_argument("--text", metavar="COLUMN", help="default: as for encode")
    parser.add_argument(
        "--id", metavar="COLUMN", help="default: id or _id, else FILE:ROW"
    )
    parser.add_argument(
        "--quoting", choices=(QUOTED, UNQUOTED), help="of .csv and .tsv files"
    )
    parser.add_argument("--output", required=True, metavar="DIR")
    parser.add_argument("--format", choices=(PARQUET, JSONL, TFRECORD), default=PARQUET)
    parser.add_argument("--values", choices=VALUES, default=FLOAT32)
    parser.add_argument(
        "--truncate-dim", type=int, metavar="N", help="the first N dimensions alone"
    )
    parser.add_argument(
        "--with-text", action="store_true", help="texts beside their embeddings"
    )
    parser.add_argument(
        "--shard-rows",
        type=int,
        metavar="N",
        help="rows of a file of the output, at most; default: for about 64 files",
    )
    parser.add_argument(
        "--share-model",
        action="store_true",
        help="one process of a machine loads the model for all: for a GPU",
    )
    _add_endpoint_flags(parser)


def run(arguments: argparse.Namespace, beam: Sequence[str]) -> None:
    """Embeds the files that the command line names.

    Args:
        arguments: What `add_flags` added.
        beam: As for `simcse_tf.pipelines.running.options_of`.

    Raises:
        UserError: If something that the user gave is wrong.

    Example:

    ```python
    run(parser.parse_args(argv), ["--runner=FnApiRunner"])
    ```
    """
    _check(arguments)
    from simcse_tf.pipelines.job import begin
    from simcse_tf.pipelines.running import options_of

    options = options_of(beam)
    output = arguments.output.rstrip("/")
    with _alone(output):
        source = _source(arguments)
        job = _job(arguments, output, source)
        with writing_output("--output", output):
            missing = begin(job)
        rows = sum(shard.part.rows for shard in missing)
        if len(missing) < len(job.shards):
            print(
                f"{output}: {len(job.shards) - len(missing)} of {len(job.shards)} "
                "files are there already",
                file=sys.stderr,
            )
        counts, seconds = {}, 0.0
        if missing:
            began = time.monotonic()
            counts = _run(arguments, source, job, missing, options)
            seconds = time.monotonic() - began
        _tell(job, rows, counts, seconds)


def _add_endpoint_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("with --target")
    group.add_argument("--model-name", default="simcse", help="default: simcse")
    group.add_argument("--version", type=int, help="default: the newest loaded")
    group.add_argument("--tls", action="store_true", help="encrypt the connection")
    group.add_argument("--ca", metavar="PEM", help="authorities to trust")
    group.add_argument(
        "--token-file", metavar="FILE", type=Path, help="with the server's token"
    )


def _check(arguments: argparse.Namespace) -> None:
    for flag in ("shard_rows", "truncate_dim"):
        value = getattr(arguments, flag)
        if value is not None and value < 1:
            name = flag.replace("_", "-")
            raise UserError(f"--{name}: expected 1 or more, received {value}")


@contextmanager
def _alone(output: str) -> Iterator[None]:
    """No other process of this machine writes there meanwhile."""
    from simcse_tf.pipelines.files import is_local

    if not is_local(output):
        yield
        return
    directory = output_directory("--output", output)
    with locked(
        directory.with_name(f".{directory.name}.lock"),
        f"--output: another process writes {output}: wait for it, or name another one",
    ):
        yield


def _source(arguments: argparse.Namespace) -> ModelSource:
    from simcse_tf.pipelines.sources import endpoint_source, saved_model_source

    find = saved_model_source if arguments.saved_model else endpoint_source
    source = find(arguments)
    dimension = arguments.truncate_dim or source.about.dimension
    if dimension > source.about.dimension:
        raise UserError(
            f"--truncate-dim: expected at most the model's {source.about.dimension}, "
            f"received {dimension}"
        )
    about = replace(
        source.about,
        dimension=dimension,
        values=arguments.values,
        truncate_dim=arguments.truncate_dim,
    )
    return source._replace(about=about)


def _job(arguments: argparse.Namespace, output: str, source: ModelSource) -> Job:
    from simcse_tf.pipelines.job import Job
    from simcse_tf.pipelines.rows import Wanted
    from simcse_tf.pipelines.shards import files_of, shards_of

    wanted = Wanted(arguments.text, arguments.id, arguments.quoting)
    files, shards = shards_of(files_of(arguments.input), wanted, arguments.shard_rows)
    for file in files:
        if file.text is not None:
            told = f"text: {file.text}, id: {file.id or 'file and row'}"
            print(f"{file.name}: {told}", file=sys.stderr)
            break
    settings = {
        name: getattr(arguments, name)
        for name in ("format", "values", "truncate_dim", "with_text", "quoting")
    }
    return Job(output, source.identity, settings, files, shards, f".{arguments.format}")


def _run(
    arguments: argparse.Namespace,
    source: ModelSource,
    job: Job,
    missing: Sequence[Any],
    options: Any,
) -> dict[str, int]:
    import apache_beam as beam
    from apache_beam.ml.inference.base import KeyedModelHandler, RunInference

    from simcse_tf.pipelines.running import run_pipeline
    from simcse_tf.pipelines.shard_steps import ReadShard, WriteShard

    write = WriteShard(job, source.about, arguments.format, arguments.with_text)

    def build(pipeline: beam.Pipeline) -> None:
        _ = (
            pipeline
            | "Shards" >> beam.Create(missing)
            # Else one worker would get all of them.
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(ReadShard())
            | "Embed" >> RunInference(KeyedModelHandler(source.handler))
            | "Write" >> beam.ParDo(write)
        )

    return run_pipeline(build, options)


def _tell(job: Job, rows: int, counts: dict[str, int], seconds: float) -> None:
    from simcse_tf.pipelines.job import dead_letters
    from simcse_tf.pipelines.shard_steps import DUPLICATES, SENTENCES

    total = sum(file.rows for file in job.files)
    bad = dead_letters(job)
    if bad == total:
        raise UserError(
            f"--input: none of {total} rows could be embedded: "
            f"{job.output}/dead-letters-* say why; remove {job.output} before the next "
            "try"
        )
    if rows:
        sentences = counts.get(SENTENCES, 0)
        print(
            f"{sentences} sentences in {seconds:.1f} s, "
            f"{sentences / max(seconds, 1e-9):.0f} a second, "
            f"{counts.get(DUPLICATES, 0)} of them repeated within a shard",
            file=sys.stderr,
        )
    if bad:
        print(f"{bad} rows are in {job.output}/dead-letters-*", file=sys.stderr)
    done = "finished" if rows else "finished before"
    print(
        f"{job.output}: {done}, {total - bad} embeddings in {len(job.shards)} files, "
        f"{bad} dead letters"
    )
