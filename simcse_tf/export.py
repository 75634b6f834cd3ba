"""The SavedModel that TF Serving runs: raw strings in, embeddings out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simcse_tf.core.atomic import atomic_directory
from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError

PRECISIONS = ("float32", "bfloat16")


def export(
    model: Any,
    base_dir: str,
    *,
    truncate_dims: Sequence[int] = (),
    quantize: Sequence[str] = (),
    source: str | None = None,
    progress: bool = False,
) -> Path:
    """Writes a model as the next version that TF Serving will pick up.

    The new version is loaded again and compared with `model.predict` before it
    appears under its number, which it does whole or not at all. It holds warmup
    requests, without which TF Serving calls a model available that cannot serve, and
    a card, `simcse.json`, that says what it is.

    Args:
        model: A `simcse_tf.SimCSE`.
        base_dir: string. Holds one directory a version: 1, 2, ...
        truncate_dims: ints below the model's dimensions. Adds a signature
            `serving_N` for each.
        quantize: Of `"int8"` and `"binary"`. Adds `serving_int8` and
            `serving_binary`; `simcse_tf.quantization` reads what they return.
        source: Optional string. The MODEL argument that the model was loaded from,
            for the card.
        progress: bool. Whether to tell each stage on stderr. Defaults to `False`.

    Returns:
        `pathlib.Path` of the version's directory, with the signatures

        | name | inputs | outputs |
        |---|---|---|
        | `serving_default` | `text`: string `(n,)` | `embedding`: float32 `(n, dim)` |
        | `similarity` | `text_a`, `text_b`: string `(n,)` | `cosine_similarity`: float32 `(n,)` |
        | `serving_N` | `text`: string `(n,)` | `embedding`: float32 `(n, N)` |
        | `serving_int8` | `text`: string `(n,)` | `embedding_int8`: int8 `(n, dim)` |
        | `serving_binary` | `text`: string `(n,)` | `embedding_bits`: uint8 `(n, ceil(dim / 8))` |

    Raises:
        UserError: If `base_dir` cannot be written, or the model's precision or a
            signature asked for cannot be had.
        RuntimeError: If the export does not answer as the model does; nothing is
            published then.
    """  # noqa: E501
    from simcse_tf.exporting import check
    from simcse_tf.exporting.signatures import signatures
    from simcse_tf.exporting.warmup_requests import write_warmup

    if model.compute_dtype not in PRECISIONS:
        raise UserError(
            f"an export computes in {' or '.join(PRECISIONS)}; the model does in "
            f"{model.compute_dtype}"
        )
    asked = signatures(model.embedding_dim, truncate_dims, quantize)
    try:
        version = Path(base_dir, str(_next_version(Path(base_dir))))
        with atomic_directory(version, replace=False) as directory:
            _tell(progress, f"tracing {', '.join(each.name for each in asked)}")
            _write_graph(model, asked, directory)
            _tell(progress, "recording the model's answers")
            write_warmup(directory, model, asked)
            _write_card(model, source, directory)
            _tell(progress, "loading it and comparing")
            try:
                check.check(directory)
            except UserError as error:
                raise RuntimeError(f"the export: {error}; not published") from None
    except OSError as error:
        raise UserError(
            f"--output: cannot write {base_dir}: {error.strerror}"
        ) from None
    return version


def _tell(progress: bool, stage: str) -> None:
    if progress:
        print(f"export: {stage}", file=sys.stderr, flush=True)


def _next_version(base_dir: Path) -> int:
    return 1 + max(_versions(base_dir), default=0)


def _versions(base_dir: Path) -> list[int]:
    names = [path.name for path in base_dir.iterdir()] if base_dir.exists() else []
    return [int(name) for name in names if name.isdecimal()]


def _write_graph(model: Any, asked: Sequence[Any], directory: Path) -> None:
    import keras

    from simcse_tf.exporting.signatures import embedder, endpoint

    # A plain `tf.Module` around a Keras 3 model loads in Python and fails in TF
    # Serving ("Could not find variable"); the archive tracks the variables that its
    # endpoints read. To `track` the model as well would store each of them twice.
    archive = keras.export.ExportArchive()
    embed = embedder(model)
    for signature in asked:
        archive.add_endpoint(signature.name, *endpoint(signature, embed))
    archive.write_out(str(directory), verbose=False)


def _write_card(model: Any, source: str | None, directory: Path) -> None:
    from simcse_tf.exporting import manifest
    from simcse_tf.exporting.check import signature_types

    facts = manifest.Model(
        source=source,
        pooling=model.pooling,
        max_length=model.max_length,
        dimensions=model.embedding_dim,
        precision=model.compute_dtype,
        parameters=model.count_params(),
    )
    training = manifest.training_of(source) if source else None
    manifest.write_card(directory, facts, training, signature_types(directory))


def _check(directory: Path) -> None:
    """Checks a version, or the newest one of a base directory, and tells of it."""
    if not directory.is_dir():
        raise UserError(f"--check: no directory {directory}")
    if not (directory / "saved_model.pb").is_file() and _versions(directory):
        directory /= str(max(_versions(directory)))
    if not (directory / "saved_model.pb").is_file():
        raise UserError(
            f"--check: no saved_model.pb in {directory}: expected a version that "
            "export wrote, or the directory above it"
        )
    from simcse_tf.exporting import check

    try:
        sound = check.check(directory)
    except UserError as error:
        raise UserError(f"{directory}: {error}") from None
    card, model = sound.card, sound.card.model
    rows = {
        "model": f"{model.source or 'unnamed'}, {model.pooling} pooling",
        "embeddings": f"{model.dimensions} dimensions, {model.precision}, of up to "
        f"{model.max_length} tokens",
        "created": card.created,
        "files": f"{len(card.files)}, SHA-256 {card.content_hash}",
        "signatures": ", ".join(card.signatures),
        "answers": f"{sound.records} recorded requests, largest difference "
        f"{sound.difference:.1g}",
    }
    print(f"{directory}: sound")
    for name, text in rows.items():
        print(f"  {name:10}  {text}")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers such as 128,256, received {text!r}"
        ) from None


def main() -> None:
    parser = Parser("simcse_tf.export", description="Write a SavedModel to serve.")
    parser.add_argument("--model", help="directory, preset or handle")
    parser.add_argument("--output", metavar="BASE_DIR")
    parser.add_argument("--max-length", type=int, metavar="N", help="tokens a text")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="what the model computes in; embeddings are float32",
    )
    parser.add_argument(
        "--truncate-dims",
        type=_numbers,
        default=[],
        metavar="N[,M]",
        help="adds a signature serving_N for each",
    )
    parser.add_argument(
        "--quantize",
        type=lambda text: text.split(","),
        default=[],
        metavar="int8,binary",
        help="adds the signatures serving_int8, serving_binary",
    )
    parser.add_argument("--check", metavar="DIR", help="verify an export that is there")
    arguments = parser.parse_args()
    if arguments.check is not None:
        if arguments.model or arguments.output:
            parser.error("--check takes no --model and no --output")
        _check(Path(arguments.check))
    elif arguments.model is None or arguments.output is None:
        parser.error("expected --model and --output, or --check")
    else:
        _export(arguments)


def _export(arguments: argparse.Namespace) -> None:
    if Path(arguments.output).exists() and not Path(arguments.output).is_dir():
        raise UserError(f"--output: {arguments.output} is not a directory")

    _tell(True, f"loading {arguments.model}")
    from simcse_tf.model.simcse import SimCSE

    model = SimCSE.from_preset(
        arguments.model, max_length=arguments.max_length, dtype=arguments.precision
    )
    version = export(
        model,
        arguments.output,
        truncate_dims=arguments.truncate_dims,
        quantize=arguments.quantize,
        source=arguments.model,
        progress=True,
    )
    print(f"version {version}")


if __name__ == "__main__":
    run(main)
