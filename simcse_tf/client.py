"""A client of the served model, with TF Serving or the Python server behind."""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simcse_tf import cli
from simcse_tf.errors import UserError

if TYPE_CHECKING:
    import grpc
    from google.protobuf import message
    from tensorflow.core.framework import tensor_pb2

# Large batches of wide embeddings pass gRPC's default limit of 4 MB. A model
# server is next door, not behind the proxy that the environment may name. A
# server that is just starting should be found within a second of its start.
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
]

# What a server answers, or does not, while the model is being loaded.
NOT_READY = ("UNAVAILABLE", "NOT_FOUND", "DEADLINE_EXCEEDED")
POLL_SECONDS = 0.2

INTERNAL = "__saved_model"  # TensorFlow lists its own initializer as a signature


class ServerError(UserError):
    """A request that the server refused, failed or never received.

    Args:
        target: The server's address.
        code: gRPC's code, such as `grpc.StatusCode.NOT_FOUND`.
        details: The server's own words.

    Attributes:
        code: As given.
        details: As given.
    """

    def __init__(self, target: str, code: grpc.StatusCode, details: str):
        fault = "cannot reach" if code.name == "UNAVAILABLE" else "error from"
        super().__init__(f"{fault} the server at {target}: {code.name}: {details}")
        self.code = code
        self.details = details


class Client:
    """A connection to a model server that serves a SimCSE export.

    Importing this module is quick; the first `Client` imports TensorFlow, which
    the protocol's Python package depends on.

    Args:
        target: "HOST:PORT" of the server's gRPC port.
        model: The model's name on the server.
        timeout: Seconds that one request may take.
        batch_size: The most texts in one request; longer lists are split.

    Example:
        >>> with Client("127.0.0.1:8500") as client:
        ...     embeddings = client.encode(["A man is playing a guitar."])
    """

    def __init__(
        self,
        target: str,
        model: str = "simcse",
        timeout: float = 60.0,
        batch_size: int = 64,
    ):
        if batch_size < 1:
            raise UserError(f"batch_size: expected 1 or more, received {batch_size}")
        import grpc
        from tensorflow_serving.apis import (
            model_service_pb2_grpc,
            prediction_service_pb2_grpc,
        )

        self.target = target
        self.model = model
        self.timeout = timeout
        self.batch_size = batch_size
        self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(
            self._channel
        )
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def encode(self, texts: Sequence[str | bytes]) -> np.ndarray:
        """Embeds texts.

        Args:
            texts: Strings, or bytes that are sent as they are, valid UTF-8 or
                not.

        Returns:
            float32 array of shape `(n, dim)`, rows of unit length, in the order
            of `texts`; `(0, dim)` for an empty list.

        Raises:
            ServerError: The server cannot be reached or answers with an error.
        """
        rows = [
            self._predict("serving_default", "embedding", {"text": batch})
            for batch in self._batches(texts)
        ]
        return np.concatenate(rows) if rows else self._no_embeddings()

    def similarity(
        self, texts_a: Sequence[str | bytes], texts_b: Sequence[str | bytes]
    ) -> np.ndarray:
        """Compares texts pair by pair.

        Args:
            texts_a: As for `encode`.
            texts_b: As many texts as in `texts_a`.

        Returns:
            float32 array of shape `(n,)`: cosine similarities, from -1 to 1.

        Raises:
            UserError: The two lists differ in length.
            ServerError: The server cannot be reached or answers with an error.
        """
        if len(texts_a) != len(texts_b):
            raise UserError(
                f"expected as many texts on both sides, received {len(texts_a)} "
                f"and {len(texts_b)}"
            )
        scores = [
            self._predict("similarity", "cosine_similarity", {"text_a": a, "text_b": b})
            for a, b in zip(self._batches(texts_a), self._batches(texts_b), strict=True)
        ]
        return np.concatenate(scores) if scores else np.empty(0, np.float32)

    def status(self) -> dict[int, str]:
        """Returns the state of every version that the server knows.

        Returns:
            The state's name, such as "AVAILABLE", by version.

        Raises:
            ServerError: As for `encode`; NOT_FOUND for an unknown model.
        """
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self.model
        response = self._call(self._models.GetModelStatus, request)
        state_name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {
            it.version: state_name(it.state) for it in response.model_version_status
        }

    def metadata(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Returns the model's signatures.

        Returns:
            For every signature's name its "inputs" and "outputs", and for each
            of these by name a dtype and a shape, -1 for what may vary, such as
            `{"text": {"dtype": "string", "shape": [-1]}}`.

        Raises:
            ServerError: As for `encode`.
        """
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = self.model
        request.metadata_field.append("signature_def")
        response = self._call(self._predictions.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return {
            name: {"inputs": _described(it.inputs), "outputs": _described(it.outputs)}
            for name, it in signatures.signature_def.items()
            if not name.startswith(INTERNAL)
        }

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Waits until the model answers a real prediction.

        A status alone does not tell: TF Serving reports AVAILABLE for a model
        that cannot serve.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            ServerError: The last refusal, after `timeout` seconds, or at once
                an error that waiting does not cure.
        """
        deadline = time.monotonic() + timeout
        while True:
            # The last try may start at the deadline; it still needs some time.
            remaining = max(deadline - time.monotonic(), POLL_SECONDS)
            try:
                self._predict(
                    "serving_default", "embedding", {"text": [b""]}, remaining
                )
                return
            except ServerError as error:
                if error.code.name not in NOT_READY or time.monotonic() >= deadline:
                    raise
            time.sleep(POLL_SECONDS)

    def _batches(self, texts: Sequence[str | bytes]) -> Iterator[list[bytes]]:
        if isinstance(texts, str | bytes):
            raise TypeError(f"expected a list of texts, received one text: {texts!r}")
        for start in range(0, len(texts), self.batch_size):
            yield [_to_bytes(text) for text in texts[start : start + self.batch_size]]

    def _predict(
        self,
        signature: str,
        output: str,
        inputs: dict[str, list[bytes]],
        timeout: float | None = None,
    ) -> np.ndarray:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(output_filter=[output])
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        for name, texts in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(texts, tf.string))
        response = self._call(self._predictions.Predict, request, timeout)
        return _to_array(response.outputs[output])

    def _call(
        self, method: Any, request: message.Message, timeout: float | None = None
    ) -> Any:
        import grpc

        try:
            return method(request, timeout=timeout or self.timeout)
        except grpc.RpcError as error:
            raise ServerError(self.target, error.code(), error.details()) from error

    def _no_embeddings(self) -> np.ndarray:
        output = self.metadata()["serving_default"]["outputs"]["embedding"]
        return np.empty((0, max(output["shape"][-1], 0)), np.float32)


def _to_bytes(text: str | bytes) -> bytes:
    # Half of a surrogate pair is not valid Unicode, but JSON and the command
    # line can bring it; the model is defined for the bytes that come out here.
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def _to_array(proto: tensor_pb2.TensorProto) -> np.ndarray:
    if proto.tensor_content:
        values = np.frombuffer(proto.tensor_content, "<f4")
    else:
        values = np.array(proto.float_val, np.float32)
    return values.reshape([dim.size for dim in proto.tensor_shape.dim])


def _described(tensors: Any) -> dict[str, dict[str, Any]]:
    import tensorflow as tf

    return {
        name: {
            "dtype": tf.as_dtype(info.dtype).name,
            "shape": [dim.size for dim in info.tensor_shape.dim],
        }
        for name, info in tensors.items()
    }


def main() -> None:
    """Parses the command line, asks the server and prints the answers."""
    parser = _parser()
    args = parser.parse_args()
    if args.command == "similarity" and len(args.texts) < 2:
        parser.error("similarity: expected at least two texts, received one")
    # Arguments that are not valid UTF-8 are sent and printed as they came.
    texts = [text.encode("utf-8", "surrogateescape") for text in args.texts]
    with Client(args.target, args.model) as client:
        if args.command == "encode":
            _print_embeddings(args.texts, client.encode(texts))
        else:
            scores = client.similarity(texts[:1] * len(texts[1:]), texts[1:])
            _print_scores(args.texts, scores)


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog="python -m simcse_tf.client",
        description="Ask a served model for embeddings or similarities.",
    )
    parser.add_argument(
        "--target",
        metavar="HOST:PORT",
        type=_target,
        required=True,
        help="the server's gRPC address",
    )
    parser.add_argument(
        "--model", default="simcse", help="the model's name (default: simcse)"
    )
    parser.add_argument(
        "command",
        choices=["encode", "similarity"],
        help="encode: one JSON object a line; similarity: the first text against "
        "each other one",
    )
    parser.add_argument("texts", metavar="TEXT", nargs="+")
    return parser


def _target(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, received {text!r}")
    return text


def _print_embeddings(texts: list[str], embeddings: np.ndarray) -> None:
    for text, embedding in zip(texts, embeddings, strict=True):
        print(json.dumps({"text": text, "embedding": embedding.tolist()}))


def _print_scores(texts: list[str], scores: np.ndarray) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
    for other, score in zip(texts[1:], scores, strict=True):
        print(f"{score:.6f}\t{texts[0]}\t{other}")


if __name__ == "__main__":
    cli.run(main)
