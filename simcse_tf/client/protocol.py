"""Builds requests and reads responses; sends nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from simcse_tf.client import messages_pb2
from simcse_tf.client.retry import VersionChanged
from simcse_tf.core.errors import UserError

Text = str | bytes
# By signature, "inputs" or "outputs", and tensor: dtype and shape.
Signatures = dict[str, dict[str, dict[str, Any]]]

# The methods that are called.
PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

# TensorFlow's numbers of the dtypes that a served model can have.
DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
STRING = 7
STATES = {
    0: "UNKNOWN",
    10: "START",
    20: "LOADING",
    30: "AVAILABLE",
    40: "UNLOADING",
    50: "END",
}

SIGNATURE_DEF = "signature_def"
INTERNAL = "__saved_model"  # TensorFlow lists its own initializer as a signature


class Output(NamedTuple):
    """An array that a signature of the model gives.

    Attributes:
        signature: The signature's name.
        name: The output's name.
        dtype: NumPy's name of its type.
    """

    signature: str
    name: str
    dtype: str


EMBEDDINGS = {
    "float32": Output("serving_default", "embedding", "float32"),
    "int8": Output("serving_int8", "embedding_int8", "int8"),
    "binary": Output("serving_binary", "embedding_bits", "uint8"),
}
SIMILARITY = Output("similarity", "cosine_similarity", "float32")


class Answer(NamedTuple):
    """An array, and the version of the model that made it."""

    array: np.ndarray
    version: int


class SameVersion:
    """Makes sure that all answers of one call come from one version.

    Example:
    ```python
    same = SameVersion()
    same.check(Answer(np.ones((1, 2)), version=1))  # the array
    same.check(Answer(np.ones((1, 2)), version=2))  # raises VersionChanged
    ```
    """

    def __init__(self) -> None:
        self._version: int | None = None

    def check(self, answer: Answer) -> np.ndarray:
        """Returns the array of an answer.

        Args:
            answer: The next answer of the call.

        Raises:
            VersionChanged: An earlier answer came from another version.
        """
        if self._version is not None and self._version != answer.version:
            raise VersionChanged(self._version, answer.version)
        self._version = answer.version
        return answer.array


def embedding_output(kind: str) -> Output:
    """Returns the output of the model that gives embeddings of one kind.

    Args:
        kind: "float32", "int8" or "binary".

    Raises:
        UserError: There is no such kind.

    Example:
    ```python
    embedding_output("int8").name  # "embedding_int8"
    ```
    """
    if kind not in EMBEDDINGS:
        raise UserError(
            f"output: expected one of {', '.join(EMBEDDINGS)}, received {kind!r}"
        )
    return EMBEDDINGS[kind]


def batches(texts: Iterable[Text], size: int) -> Iterator[list[bytes]]:
    """Yields `size` texts at a time, as bytes.

    Args:
        texts: Strings or bytes; read no further than the batch that is yielded.
        size: The most texts in a batch.

    Raises:
        TypeError: It is one text, or holds something else than texts.

    Example:
    ```python
    list(batches(["a", "b", "c"], size=2))  # [[b"a", b"b"], [b"c"]]
    ```
    """
    if isinstance(texts, Text):
        raise TypeError(f"expected a list of texts, received one text: {texts!r}")
    remaining = iter(texts)
    while batch := [_to_bytes(text) for text in islice(remaining, size)]:
        yield batch


def predict_request(
    spec: messages_pb2.ModelSpec,
    output: Output,
    inputs: Mapping[str, Sequence[bytes]],
) -> messages_pb2.PredictRequest:
    """Builds the request for one output of a signature.

    Args:
        spec: The model and its version, without a signature.
        output: What the model is to compute.
        inputs: As many texts for each input of the signature, by name.

    Example:
    ```python
    spec = messages_pb2.ModelSpec(name="simcse")
    predict_request(spec, EMBEDDINGS["float32"], {"text": [b"A man plays."]})
    ```
    """
    request = messages_pb2.PredictRequest(model_spec=spec, output_filter=[output.name])
    request.model_spec.signature_name = output.signature
    for name, texts in inputs.items():
        tensor = request.inputs.add(key=name).value
        tensor.dtype = STRING
        tensor.tensor_shape.dim.add(size=len(texts))
        tensor.string_val.extend(texts)
    return request


def read_prediction(
    response: messages_pb2.PredictResponse, output: Output, rows: int
) -> Answer:
    """Reads what `predict_request` asked for.

    Args:
        response: The server's response.
        output: What was asked for.
        rows: How many texts were sent.

    Raises:
        UserError: The response does not fit the request.

    Example:
    ```python
    read_prediction(response, EMBEDDINGS["float32"], rows=1).array.shape  # (1, dim)
    ```
    """
    tensors = {it.key: it.value for it in response.outputs}
    if output.name not in tensors:
        raise UserError(
            f"expected an output {output.name} from the server, received "
            f"{sorted(tensors)}"
        )
    array = to_array(tensors[output.name])
    if array.dtype != output.dtype or array.shape[:1] != (rows,):
        raise UserError(
            f"{output.name}: expected {output.dtype} with {rows} rows from the server, "
            f"received {array.dtype} of shape {array.shape}"
        )
    return Answer(array, response.model_spec.version.value)


def to_array(tensor: messages_pb2.Tensor) -> np.ndarray:
    """Reads a tensor of float32, int8 or uint8.

    Args:
        tensor: Its values are in `tensor_content`, or in `float_val` or
            `int_val`, where TF Serving puts them by default.

    Returns:
        The values; not writable.

    Raises:
        UserError: The dtype is another one, or the values do not fill the shape.

    Example:
    ```python
    to_array(response.outputs[0].value).dtype  # float32
    ```
    """
    dtype = DTYPES.get(tensor.dtype, f"number {tensor.dtype}")
    if dtype not in ("float32", "int8", "uint8"):
        raise UserError(f"expected float32, int8 or uint8, received dtype {dtype}")
    packed = tensor.tensor_content or (tensor.float_val if dtype == "float32" else b"")
    if packed or not tensor.int_val:
        values = np.frombuffer(packed, np.dtype(dtype).newbyteorder("<"))
    else:
        values = np.array(tensor.int_val, dtype)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    try:
        return values.reshape(shape)
    except ValueError:
        raise UserError(
            f"expected values for shape {shape} from the server, received {values.size}"
        ) from None


def read_status(response: messages_pb2.GetModelStatusResponse) -> dict[int, str]:
    """Returns the states in a `GetModelStatusResponse`, by version.

    Example:
    ```python
    read_status(response)  # {1: "AVAILABLE"}
    ```
    """
    return {
        it.version: STATES.get(it.state, str(it.state))
        for it in response.model_version_status
    }


def read_metadata(response: messages_pb2.GetModelMetadataResponse) -> Signatures:
    """Returns the signatures in a `GetModelMetadataResponse`, by name.

    Example:
    ```python
    read_metadata(response)["serving_default"]["outputs"]
    ```
    """
    packed = {it.key: it.value.value for it in response.metadata}[SIGNATURE_DEF]
    signatures = messages_pb2.Signatures.FromString(packed).signature_def
    return {
        it.key: {
            "inputs": _described(it.value.inputs),
            "outputs": _described(it.value.outputs),
        }
        for it in signatures
        if not it.key.startswith(INTERNAL)
    }


def no_rows(signatures: Signatures, kind: str, output: Output) -> np.ndarray:
    """Makes the array of embeddings of no texts.

    Args:
        signatures: What `read_metadata` returned.
        kind: The kind of embeddings, for the message.
        output: The output that gives this kind.

    Returns:
        An array of shape `(0, width)` and the output's dtype.

    Raises:
        UserError: The model has no such signature.

    Example:
    ```python
    no_rows(signatures, "float32", EMBEDDINGS["float32"]).shape  # (0, dim)
    ```
    """
    if output.signature not in signatures:
        raise UserError(
            f"output {kind}: expected a signature {output.signature} in the "
            f"model, received {', '.join(sorted(signatures))}"
        )
    shape = signatures[output.signature]["outputs"][output.name]["shape"]
    return np.empty((0, max(shape[-1], 0)), output.dtype)


def _described(
    tensors: Iterable[messages_pb2.NamedTensorInfo],
) -> dict[str, dict[str, Any]]:
    return {
        it.key: {
            "dtype": DTYPES.get(it.value.dtype, str(it.value.dtype)),
            "shape": [dim.size for dim in it.value.tensor_shape.dim],
        }
        for it in tensors
    }


def _to_bytes(text: Text) -> bytes:
    if isinstance(text, str):
        # Half of a surrogate pair is not valid Unicode, but JSON and the command line
        # can bring it; the model is defined for the bytes that come out here.
        return text.encode("utf-8", "surrogatepass")
    if isinstance(text, bytes):
        return text
    raise TypeError(f"expected texts, received {text!r} among them")
