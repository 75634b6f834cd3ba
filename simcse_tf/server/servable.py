"""One loaded version of a SavedModel: its signatures, validation, inference."""

import copy
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the ops that tokenize
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis import predict_pb2

from simcse_tf.errors import UserError
from simcse_tf.server import rejections, tensors

DEFAULT_SIGNATURE = "serving_default"


class Servable:
    """A SavedModel in memory, ready to answer `Predict` requests.

    Safe to call from several threads.

    Args:
        version: The version that responses report.
        path: The SavedModel's directory.

    Attributes:
        version: As given.
        path: As given.
        signature_defs: Every signature of the `serve` meta graph, by name.

    Raises:
        UserError: The directory holds no SavedModel that TensorFlow can load.
    """

    def __init__(self, version: int, path: Path):
        self.version = version
        self.path = path
        # A broken file surfaces as almost any exception type, here and in
        # TensorFlow's loader; for whoever starts the server it is one mistake.
        try:
            self.signature_defs = _read_signature_defs(path)
            self._model = tf.saved_model.load(str(path), [tf.saved_model.SERVING])
        except Exception as error:
            raise UserError(f"cannot load the SavedModel {path}: {error}") from error

    def predict(
        self, request: predict_pb2.PredictRequest
    ) -> predict_pb2.PredictResponse:
        """Answers one request; which model it names is not looked at.

        Args:
            request: Inputs by name; `output_filter` may restrict the outputs.

        Returns:
            The outputs, and the model spec that was used.

        Raises:
            tf.errors.FailedPreconditionError: No such signature.
            tf.errors.InvalidArgumentError: The inputs or the output filter do
                not fit the signature.
            tf.errors.OpError: Whatever the graph itself raises.
        """
        outputs = self.run(request)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = self.version
        response.model_spec.signature_name = _signature_name(request)
        for name, tensor in outputs.items():
            response.outputs[name].CopyFrom(tensors.to_proto(tensor))
        return response

    def run(self, request: predict_pb2.PredictRequest) -> dict[str, tf.Tensor]:
        """Does what `predict` does, and leaves the packing to the caller.

        Args:
            request: As for `predict`.

        Returns:
            The outputs that the request wants, by name.

        Raises:
            tf.errors.OpError: As for `predict`.
        """
        name = _signature_name(request)
        signature = self.signature(name)
        inputs = _parse_inputs(signature, request.inputs)
        wanted = _wanted_outputs(signature, request.output_filter)
        outputs = self._model.signatures[name](**inputs)
        return {output: outputs[output] for output in wanted}

    def signature(self, name: str) -> SignatureDef:
        """Looks a signature up.

        Args:
            name: Its name.

        Returns:
            What it takes and gives.

        Raises:
            tf.errors.FailedPreconditionError: No such signature.
        """
        callable_names = self._model.signatures.keys() & self.signature_defs.keys()
        if name not in callable_names:
            raise rejections.failed_precondition(
                f'Serving signature key "{name}" not found, expected one of '
                f"{_listed(callable_names)}.",
            )
        return self.signature_defs[name]


def check_input_names(signature: SignatureDef, received: Collection[str]) -> None:
    """Refuses inputs that a signature does not have, or has and did not get.

    Args:
        signature: What the request asks for.
        received: The names of the inputs in the request.

    Raises:
        tf.errors.InvalidArgumentError: The names do not match.
    """
    missing = signature.inputs.keys() - signature.defaults.keys() - set(received)
    extra = set(received) - signature.inputs.keys()
    if missing or extra:
        raise rejections.invalid(
            f"inputs do not match the signature: expected "
            f"{_listed(signature.inputs)}, received {_listed(received)}; "
            f"missing {_listed(missing)}, extra {_listed(extra)}"
        )


def _signature_name(request: predict_pb2.PredictRequest) -> str:
    return request.model_spec.signature_name or DEFAULT_SIGNATURE


def _read_signature_defs(path: Path) -> dict[str, SignatureDef]:
    contents = (path / "saved_model.pb").read_bytes()
    for graph in SavedModel.FromString(contents).meta_graphs:
        if tf.saved_model.SERVING in graph.meta_info_def.tags:
            # Copies, or they would keep the whole graph in memory.
            return {name: copy.deepcopy(it) for name, it in graph.signature_def.items()}
    raise ValueError("no meta graph with the tag 'serve'")


def _parse_inputs(
    signature: SignatureDef, received: Mapping[str, TensorProto]
) -> dict[str, tf.Tensor]:
    check_input_names(signature, received.keys())
    protos = {**signature.defaults, **received}
    return {
        name: _parse_input(name, info, protos[name])
        for name, info in signature.inputs.items()
    }


def _parse_input(name: str, info: TensorInfo, proto: TensorProto) -> tf.Tensor:
    shape = tf.TensorShape(info.tensor_shape)
    expected = f'input "{name}": expected {tf.DType(info.dtype).name} of shape {shape}'
    if proto.dtype != info.dtype:
        raise rejections.invalid(f"{expected}, received {_dtype_name(proto.dtype)}")
    try:
        tensor = tensors.from_proto(proto)
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        raise rejections.invalid(f"{expected}, received a malformed tensor") from error
    if not shape.is_compatible_with(tensor.shape):
        raise rejections.invalid(f"{expected}, received shape {tensor.shape}")
    return tensor


def _wanted_outputs(signature: SignatureDef, output_filter: Iterable[str]) -> list[str]:
    wanted = list(output_filter)
    unknown = set(wanted) - signature.outputs.keys()
    if unknown:
        raise rejections.invalid(
            f"output_filter: expected outputs out of {_listed(signature.outputs)}, "
            f"received {_listed(unknown)}"
        )
    if len(set(wanted)) < len(wanted):
        raise rejections.invalid(f"output_filter: duplicate outputs in {wanted}")
    return wanted or list(signature.outputs)


def _dtype_name(dtype: int) -> str:
    try:
        return tf.as_dtype(dtype).name
    except TypeError:  # unset, or a number that this TensorFlow does not know
        return f"dtype {dtype}"


def _listed(names: Iterable[str]) -> str:
    return "{" + ", ".join(sorted(names)) + "}"
