"""The SavedModel that TF Serving runs: raw strings in, embeddings out."""

from pathlib import Path
from typing import Any

from simcse_tf.cli import Parser, run
from simcse_tf.errors import UserError
from simcse_tf.files import whole_directory

SERVED_NAME = "simcse"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"

# What is asked of a new export before it is published; short and long, plain and
# odd, so that every part of the graph runs.
PROBES = (
    "A man is playing a guitar.",
    "",
    "Ünïcödé, 漢字 and 🙂 [SEP]",
    b"not \xff\xfe UTF-8",
    "word " * 2000,
)
TOLERANCE = 1e-5


def export(model: Any, base_dir: str) -> Path:
    """Writes a model as the next version that TF Serving will pick up.

    The new version is loaded again and compared with `model.predict` before it
    appears under its number, which it does whole or not at all. It holds warmup
    requests, without which TF Serving calls a model available that cannot serve.

    Args:
        model: A `simcse_tf.SimCSE`.
        base_dir: string. Holds one directory a version: 1, 2, ...

    Returns:
        `pathlib.Path` of the version's directory, with the signatures

        | name | inputs | outputs |
        |---|---|---|
        | `serving_default` | `text`: string `(n,)` | `embedding`: float32 `(n, dim)` |
        | `similarity` | `text_a`, `text_b`: string `(n,)` | `cosine_similarity`: float32 `(n,)` |

    Raises:
        UserError: If `base_dir` cannot be written.
        RuntimeError: If the export does not answer as the model does; nothing is
            published then.
    """  # noqa: E501
    try:
        version = Path(base_dir, str(_next_version(Path(base_dir))))
        with whole_directory(version, replace=False) as directory:
            _write(model, directory)
            _compare(model, directory)
    except OSError as error:
        raise UserError(
            f"--output: cannot write {base_dir}: {error.strerror}"
        ) from None
    return version


def _next_version(base_dir: Path) -> int:
    names = [path.name for path in base_dir.iterdir()] if base_dir.exists() else []
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)


def _write(model: Any, directory: Path) -> None:
    import keras
    import tensorflow as tf

    def embed(text: tf.Tensor) -> tf.Tensor:
        return model.call(model.preprocess(text), training=False)

    def serving_default(text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": embed(text)}

    def similarity(text_a: tf.Tensor, text_b: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"cosine_similarity": tf.reduce_sum(embed(text_a) * embed(text_b), 1)}

    # A plain `tf.Module` around a Keras 3 model loads in Python and fails in TF
    # Serving ("Could not find variable"); the archive tracks what Serving needs.
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serving_default, [_strings("text")])
    archive.add_endpoint(
        "similarity", similarity, [_strings("text_a"), _strings("text_b")]
    )
    archive.write_out(str(directory), verbose=False)
    _write_warmup(directory)


def _strings(name: str) -> Any:
    import tensorflow as tf

    return tf.TensorSpec([None], tf.string, name=name)


def _write_warmup(directory: Path) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    from simcse_tf.model import string_tensor

    probes = tf.make_tensor_proto(string_tensor(PROBES).numpy())
    path = directory / WARMUP_FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in (
            ("serving_default", ("text",)),
            ("similarity", ("text_a", "text_b")),
        ):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = SERVED_NAME
            request.model_spec.signature_name = signature
            for name in inputs:
                request.inputs[name].CopyFrom(probes)
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())


def _compare(model: Any, directory: Path) -> None:
    import numpy as np
    import tensorflow as tf

    from simcse_tf.model import string_tensor

    expected = model.predict(PROBES, verbose=0)
    signatures = tf.saved_model.load(str(directory)).signatures
    text = string_tensor(PROBES)
    embedding = signatures["serving_default"](text=text)["embedding"]
    cosine = signatures["similarity"](text_a=text, text_b=text[::-1])
    for name, received, wanted in (
        ("embedding", embedding, expected),
        (
            "cosine_similarity",
            cosine["cosine_similarity"],
            (expected * expected[::-1]).sum(axis=1),
        ),
    ):
        difference = float(np.abs(received.numpy() - wanted).max())
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"the export's {name} differs from the model's by {difference:.2g}, "
                f"more than {TOLERANCE}; it was not published"
            )


def main() -> None:
    parser = Parser("simcse_tf.export", description="Write a SavedModel to serve.")
    parser.add_argument("--model", required=True, help="directory, preset or handle")
    parser.add_argument("--output", required=True, metavar="BASE_DIR")
    parser.add_argument("--max-length", type=int, metavar="N", help="tokens a text")
    arguments = parser.parse_args()
    if Path(arguments.output).exists() and not Path(arguments.output).is_dir():
        raise UserError(f"--output: {arguments.output} is not a directory")

    from simcse_tf.model import SimCSE

    model = SimCSE.from_preset(arguments.model, max_length=arguments.max_length)
    print(f"version {export(model, arguments.output)}")


if __name__ == "__main__":
    run(main)
