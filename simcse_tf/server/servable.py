"""A loaded version of a SavedModel: its signatures, validation, inference."""

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the ops that tokenize
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis import predict_pb2

from simcse_tf.core.errors import UserError
from simcse_tf.core.request_context import note
from simcse_tf.server import status_errors, tensors
from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.integrity import check_files
from simcse_tf.server.lanes import Lanes
from simcse_tf.server.scheduler import (
    Arrays,
    BatchMetrics,
    BatchScheduler,
    Unbatched,
    rows_of,
)
from simcse_tf.server.versions import GRAPH_FILE

MOST_NAMES = 100  # that a message lists
DEFAULT_SIGNATURE = "serving_default"
LARGEST_GRAPH = 2**31 - 1
# TF Serving's methods beside Predict, which no embedding model has.
OTHER_METHODS = {"classify": "classification", "regress": "regression"}


class Servable:
    """A SavedModel in memory, ready to answer `Predict` requests.

    Args:
        version: The version that responses report.
        path: The SavedModel's directory.
        batching: How the requests to a signature are merged; None computes each
            by itself.
        executor: Where inference runs.
        metrics: Receives each batch.
        model_name: The model's name in `metrics`.
        long_executor: Where batches of long texts run; by default among the others.

    Attributes:
        version: As given.
        path: As given.
        most_rows: The most rows of a request; None for any number.
        signature_defs: Every signature of the `serve` meta graph, by name.

    Raises:
        UserError: The directory holds no SavedModel that TensorFlow can load.

    Example:
    ```python
    servable = Servable(1, Path("exports/simcse/1"), None, ThreadPoolExecutor(1))
    outputs = servable.run_alone(request)
    ```
    """

    def __init__(
        self,
        version: int,
        path: Path,
        batching: BatchingParameters | None,
        executor: Executor,
        metrics: BatchMetrics | None = None,
        model_name: str = "",
        long_executor: Executor | None = None,
    ):
        self.version = version
        self.path = path
        self.most_rows = batching.max_batch_size if batching else None
        # A broken file raises almost any type of exception, here and in TensorFlow's
        # loader. For the user who starts the server all of them are one mistake.
        try:
            check_files(path)
            self.signature_defs = _read_signature_defs(path)
            self._model = tf.saved_model.load(str(path), [tf.saved_model.SERVING])
            self._functions = {
                name: _on_arrays(function)
                for name, function in self._model.signatures.items()
                if name in self.signature_defs
            }
        except Exception as error:
            raise UserError(f"cannot load the SavedModel {path}: {error}") from error

        def scheduler(function: Callable[[Arrays], Arrays]) -> Lanes | Unbatched:
            if not batching:
                return Unbatched(function, executor)
            short, long = (
                BatchScheduler(function, batching, lane, metrics, model_name)
                for lane in (executor, long_executor or executor)
            )
            return Lanes(short, long)

        self._schedulers = {
            name: scheduler(function) for name, function in self._functions.items()
        }

    async def run(
        self, request: predict_pb2.PredictRequest, deadline: float | None = None
    ) -> dict[str, np.ndarray]:
        """Answers one request, whichever model it names.

        To be called from one event loop only.

        Args:
            request: Inputs by name; `output_filter` may restrict the outputs.
            deadline: When to give up, in seconds of `time.monotonic()`.

        Returns:
            The outputs that the request wants, by name.

        Raises:
            tf.errors.FailedPreconditionError: There is no such signature.
            tf.errors.InvalidArgumentError: The inputs or the output filter do
                not fit the signature, or the request cannot be batched.
            tf.errors.UnavailableError: Too many requests are waiting.
            tf.errors.DeadlineExceededError: The deadline passed first.
            tf.errors.OpError: The graph itself raises it.
        """
        name, inputs, wanted = self._parse(request)
        note(texts=rows_of(inputs))
        outputs = await self._schedulers[name].submit(inputs, deadline)
        return {output: outputs[output] for output in wanted}

    def run_alone(self, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
        """Does the same as `run` in the calling thread, at once and without batching.

        Args:
            request: As for `run`.

        Returns:
            As for `run`.

        Raises:
            tf.errors.OpError: As for `run`.
        """
        name, inputs, wanted = self._parse(request)
        outputs = self._functions[name](inputs)
        return {output: outputs[output] for output in wanted}

    async def close(self) -> None:
        """Waits for what is being computed, even if its clients have left."""
        for scheduler in self._schedulers.values():
            await scheduler.close()

    def signature(self, name: str) -> SignatureDef:
        """Finds a signature.

        Args:
            name: The signature's name.

        Returns:
            Its inputs and outputs.

        Raises:
            tf.errors.FailedPreconditionError: There is no such signature.
            tf.errors.InvalidArgumentError: It is TensorFlow's own, for the start.
        """
        if name not in self._functions:
            if name in self.signature_defs:
                raise status_errors.invalid(f"signature {name} takes no requests")
            raise status_errors.failed_precondition(
                f'Serving signature key "{name}" not found, expected one of '
                f"{_listed(self._functions)}.",
            )
        return self.signature_defs[name]

    def has_no(self, method: str) -> tf.errors.OpError:
        """The error of a request to classify or to regress.

        Args:
            method: One of `OTHER_METHODS`.
        """
        signature = self.signature_defs.get(DEFAULT_SIGNATURE, SignatureDef())
        wanted = f"tensorflow/serving/{method}"
        if signature.method_name == wanted:
            return status_errors.unimplemented("the Python server offers Predict only")
        return status_errors.invalid(
            f"Expected {OTHER_METHODS[method]} signature method_name to be {wanted}. "
            f"Was: {signature.method_name}"
        )

    def _parse(
        self, request: predict_pb2.PredictRequest
    ) -> tuple[str, dict[str, np.ndarray], list[str]]:
        name = signature_name(request)
        signature = self.signature(name)
        wanted = _wanted_outputs(signature, request.output_filter)
        if self.most_rows:
            _check_rows(request.inputs, self.most_rows)
        return name, _parse_inputs(signature, request.inputs), wanted


def signature_name(request: predict_pb2.PredictRequest) -> str:
    """Returns the name of a request's signature, by default `serving_default`.

    Args:
        request: Names the signature in its `model_spec`.

    Example:
    ```python
    signature_name(predict_pb2.PredictRequest())  # "serving_default"
    ```
    """
    return str(request.model_spec.signature_name or DEFAULT_SIGNATURE)


def check_input_names(signature: SignatureDef, received: Collection[str]) -> None:
    """Refuses a request with unknown or missing inputs.

    Args:
        signature: The signature that the request asks for.
        received: The names of the inputs in the request.

    Raises:
        tf.errors.InvalidArgumentError: The names do not match.

    Example:
    ```python
    check_input_names(servable.signature("serving_default"), ["text"])
    ```
    """
    # As a set, because the message's own keys refuse names that are not UTF-8.
    expected = set(signature.inputs)
    missing = expected - signature.defaults.keys() - set(received)
    extra = set(received) - expected
    if missing or extra:
        raise status_errors.invalid(
            f"inputs do not match the signature: expected "
            f"{_listed(expected)}, received {_listed(received)}; "
            f"missing {_listed(missing)}, extra {_listed(extra)}"
        )


def _on_arrays(function: Any) -> Callable[[Arrays], Arrays]:
    """Makes a signature take and give arrays."""
    _, specs = function.structured_input_signature

    def run(inputs: Arrays) -> Arrays:
        outputs = function(
            **{
                name: tf.constant(inputs[name], spec.dtype)
                for name, spec in specs.items()
            }
        )
        return {name: tensors.to_array(tensor) for name, tensor in outputs.items()}

    return run


def _read_signature_defs(path: Path) -> dict[str, SignatureDef]:
    graph_file = path / GRAPH_FILE
    if graph_file.stat().st_size > LARGEST_GRAPH:
        raise ValueError(f"{GRAPH_FILE} is larger than a protocol buffer can be")
    for graph in SavedModel.FromString(graph_file.read_bytes()).meta_graphs:
        if tf.saved_model.SERVING in graph.meta_info_def.tags:
            # Copies, because the originals would keep the whole graph in memory.
            return {name: copy.deepcopy(it) for name, it in graph.signature_def.items()}
    raise ValueError("no meta graph with the tag 'serve'")


def _check_rows(received: Mapping[str, TensorProto], most: int) -> None:
    """Refuses what the scheduler would refuse, before it is an array."""
    for proto in received.values():
        rows = proto.tensor_shape.dim[0].size if proto.tensor_shape.dim else 0
        if rows == len(proto.string_val) > most:
            raise status_errors.invalid(
                f"Task size {rows} is larger than maximum input batch size {most}"
            )


def _parse_inputs(
    signature: SignatureDef, received: Mapping[str, TensorProto]
) -> dict[str, np.ndarray]:
    check_input_names(signature, received.keys())
    protos = {**signature.defaults, **received}
    return {
        name: _parse_input(name, info, protos[name])
        for name, info in signature.inputs.items()
    }


def _parse_input(name: str, info: TensorInfo, proto: TensorProto) -> np.ndarray:
    if proto.dtype != info.dtype:
        raise _misfit(name, info, _dtype_name(proto.dtype))
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if not _fits(shape, info.tensor_shape):
        raise _misfit(name, info, f"shape {shape}")
    try:
        return tensors.from_proto(proto)
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        raise _misfit(name, info, "a malformed tensor") from error


def _fits(shape: tuple[int, ...], expected: TensorShapeProto) -> bool:
    sizes = [dim.size for dim in expected.dim]
    return expected.unknown_rank or (
        len(shape) == len(sizes)
        and all(want in (-1, size) for size, want in zip(shape, sizes, strict=True))
    )


def _misfit(
    name: str, info: TensorInfo, received: str
) -> tf.errors.InvalidArgumentError:
    return status_errors.invalid(
        f'input "{name}": expected {tf.DType(info.dtype).name} of shape '
        f"{tf.TensorShape(info.tensor_shape)}, received {received}"
    )


def _wanted_outputs(signature: SignatureDef, output_filter: Iterable[str]) -> list[str]:
    wanted = list(output_filter)
    unknown = set(wanted) - signature.outputs.keys()
    if unknown:
        raise status_errors.invalid(
            f"output_filter: expected outputs out of {_listed(signature.outputs)}, "
            f"received {_listed(unknown)}"
        )
    if len(set(wanted)) < len(wanted):
        raise status_errors.invalid(f"output_filter: duplicate outputs in {wanted}")
    return wanted or list(signature.outputs)


def _dtype_name(dtype: int) -> str:
    try:
        return str(tf.as_dtype(dtype).name)
    except TypeError:  # unset, or a number that this TensorFlow does not know
        return f"dtype {dtype}"


def _listed(names: Collection[str]) -> str:
    if len(names) > MOST_NAMES:
        return f"{len(names)} names"
    return "{" + ", ".join(sorted(names)) + "}"
