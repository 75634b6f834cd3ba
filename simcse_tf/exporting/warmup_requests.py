"""An export's warmup requests, and the model's own answers to them.

TF Serving replays the requests before it calls a model available, and ignores the
answers. `simcse_tf.exporting.check` compares an export's answers with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from simcse_tf.core.vectors import check_finite
from simcse_tf.exporting.served_embedder import Embedded
from simcse_tf.exporting.signatures import Endpoint

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
SERVED_NAME = "simcse"

# Short and long texts, plain and odd ones, so that every part of the graph runs.
PROBES = (
    b"A man is playing a guitar.",
    b"",
    "Ünïcödé, 漢字 and 🙂 [SEP]".encode(),
    b"not \xff\xfe UTF-8",
    b"word " * 2000,
)
# Sizes and lengths as in production; below any server's batch limit.
_MIXED = tuple(PROBES[0] * (1 + number % 4) + b" %d" % number for number in range(32))
BATCHES = (PROBES[:1], PROBES, _MIXED[:8], _MIXED)


def answers(model: SimCSE, prompt: str | None = None) -> list[Embedded]:
    """What a model makes of every batch of requests.

    Args:
        model: The `simcse_tf.SimCSE` that is exported.
        prompt: Optional string. What stands before each text. Defaults to `None`: the
            model's own prompt.

    Raises:
        UserError: If an embedding is not finite.

    Example:

    ```python
    answers(model)[0].embedding  # float32, (1, 768)
    ```
    """
    with model.behind(prompt):
        answered = [_embedded(model, texts) for texts in BATCHES]
    for each in answered:
        check_finite(each.embedding, "the model's embeddings of the warmup requests")
    return answered


def write_warmup(
    directory: Path,
    answered: Mapping[str | None, Sequence[Embedded]],
    endpoints: Sequence[Endpoint],
) -> None:
    """Records a request of every batch to every signature, with the model's answers.

    Args:
        directory: The export.
        answered: As `answers` returned it, by the prompt of a signature.
        endpoints: All signatures of the export.

    Example:

    ```python
    write_warmup(directory, {None: answers(model)}, signatures(model.embedding_dim))
    ```
    """
    path = directory / WARMUP_FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for endpoint in endpoints:
            of_prompt = answered[endpoint.prompt]
            for texts, embedded in zip(BATCHES, of_prompt, strict=True):
                writer.write(_record(endpoint, texts, embedded).SerializeToString())


def read_warmup(
    directory: Path,
) -> Iterator[tuple[str, dict[str, tf.Tensor], Mapping[str, np.ndarray]]]:
    """Reads the records of an export.

    Yields:
        A signature's name, inputs and outputs.

    Raises:
        tf.errors.OpError: If the file is missing or damaged.

    Example:

    ```python
    for name, inputs, outputs in read_warmup(Path("exports/simcse/1")):
        print(name, inputs["text"])
    ```
    """
    for record in tf.data.TFRecordDataset(str(directory / WARMUP_FILE)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log
        inputs = {
            name: tf.constant(tf.make_ndarray(proto))
            for name, proto in log.request.inputs.items()
        }
        outputs = {
            name: tf.make_ndarray(proto) for name, proto in log.response.outputs.items()
        }
        yield log.request.model_spec.signature_name, inputs, outputs


def _embedded(model: SimCSE, texts: Sequence[bytes]) -> Embedded:
    _, tokens = model.token_ids(texts, model.max_length)
    _, with_one_more = model.token_ids(texts, model.max_length + 1)
    return Embedded(
        model.predict(list(texts), verbose=0),
        tokens.astype(np.int32),
        with_one_more > tokens,
    )


def _record(
    endpoint: Endpoint, texts: Sequence[bytes], embedded: Embedded
) -> prediction_log_pb2.PredictionLog:
    inputs, outputs = endpoint.example(texts, embedded)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = SERVED_NAME
    request.model_spec.signature_name = endpoint.name
    response = predict_pb2.PredictResponse()
    for tensors, arrays in ((request.inputs, inputs), (response.outputs, outputs)):
        for name, array in arrays.items():
            tensors[name].CopyFrom(tf.make_tensor_proto(array))
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request, response=response)
    )
