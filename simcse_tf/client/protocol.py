"""Builds requests and reads responses; sends nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from simcse_tf.client import messages_pb2
from simcse_tf.client.retry import VersionChanged, readable
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

# A request takes no further texts once it holds so many bytes. The Python server takes
# 8 MiB.
FULL_BYTES = 2 * 2**20

# The most numbers in a row, which decides how much is allocated.
WIDEST = 2**20
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
        rank: 2 for a row of numbers a text, 1 for a number.
    """

    signature: str
    name: str
    dtype: str
    rank: int = 2


EMBEDDINGS = {
    "float32": Output("serving_default", "embedding", "float32"),
    "int8": Output("serving_int8", "embedding_int8", "int8"),
    "binary": Output("serving_binary", "embedding_bits", "uint8"),
}
SIMILARITY = Output("similarity", "cosine_similarity", "float32", rank=1)


class Answer(NamedTuple):
    """An array, and the version of the model that made it."""

    array: np.ndarray
    version: int


class SameVersion:
    """Makes sure that all answers of one call come from one version, and fit together.

    Example:
    ```python
    same = SameVersion()
    same.check(Answer(np.ones((1, 2)), version=1))  # the array
    same.check(Answer(np.ones((1, 2)), version=2))  # raises VersionChanged
    ```
    """

    def __init__(self) -> None:
        self._version: int | None = None
        self._width: tuple[int, ...] | None = None

    def check(self, answer: Answer) -> np.ndarray:
        """Returns the array of an answer.

        Args:
            answer: The next answer of the call.

        Raises:
            VersionChanged: An earlier answer came from another version.
            UserError: An earlier answer had rows of another width.
        """
        if self._version is not None and self._version != answer.version:
            raise VersionChanged(self._version, answer.version)
        self._version = answer.version
        width = answer.array.shape[1:]
        if self._width not in (None, width):
            raise UserError(
                f"expected rows of shape {self._width} from the server, as before, "
                f"received {width}"
            )
        self._width = width
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
    """Yields `size` texts at a time, as bytes; fewer if they are long.

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
    for [batch] in column_batches([texts], size):
        yield batch


def column_batches(
    columns: Sequence[Iterable[Text]], size: int
) -> Iterator[list[list[bytes]]]:
    """Does the same with rows of several texts.

    Args:
        columns: As many texts in each.
        size: The most rows in a batch.

    Yields:
        The columns of a batch.

    Raises:
        TypeError: As for `batches`.

    Example:
    ```python
    list(column_batches([["a"], ["b"]], size=2))  # [[[b"a"], [b"b"]]]
    ```
    """
    for texts in columns:
        if isinstance(texts, Text):
            raise TypeError(f"expected a list of texts, received one text: {texts!r}")
    rows: list[list[bytes]] = []
    held = 0
    for texts_of_a_row in zip(*columns, strict=True):
        rows.append([_to_bytes(text) for text in texts_of_a_row])
        held += sum(map(len, rows[-1]))
        if len(rows) == size or held >= FULL_BYTES:
            yield [list(column) for column in zip(*rows, strict=True)]
            rows, held = [], 0
    if rows:
        yield [list(column) for column in zip(*rows, strict=True)]


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
            f"{readable(', '.join(sorted(tensors)))}"
        )
    array = to_array(tensors[output.name])
    shape = array.shape
    fits = len(shape) == output.rank and shape[0] == rows and 0 not in shape[1:]
    if array.dtype != output.dtype or not fits:
        raise UserError(
            f"{output.name}: expected {output.dtype} with {rows} rows from the server, "
            f"in {output.rank} dimensions, received {array.dtype} of shape "
            f"{readable(str(shape))}"
        )
    if array.dtype == np.float32 and not np.isfinite(array).all():
        raise UserError(
            f"{output.name}: expected finite numbers from the server, received NaN or "
            f"infinity: check the model that it serves"
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
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    values = np.empty(0)
    try:
        if packed or not tensor.int_val:
            values = np.frombuffer(packed, np.dtype(dtype).newbyteorder("<"))
        else:
            values = np.array(tensor.int_val, dtype)
        # NumPy would take -1 for "as many as there are".
        if any(size < 0 for size in shape):
            raise ValueError
        return values.reshape(shape)
    except (ValueError, OverflowError):
        raise UserError(
            f"expected {dtype} values for shape {readable(str(shape))} from the "
            f"server, received {values.size}"
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

    Raises:
        UserError: The response holds none.

    Example:
    ```python
    read_metadata(response)["serving_default"]["outputs"]
    ```
    """
    packed = {it.key: it.value.value for it in response.metadata}
    try:
        signatures = messages_pb2.Signatures.FromString(
            packed[SIGNATURE_DEF]
        ).signature_def
    except (KeyError, DecodeError):
        raise UserError(
            f"expected {SIGNATURE_DEF} in the server's metadata, received none"
        ) from None
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
        UserError: The model has no such signature, or no such output.

    Example:
    ```python
    no_rows(signatures, "float32", EMBEDDINGS["float32"]).shape  # (0, dim)
    ```
    """
    if output.signature not in signatures:
        raise UserError(
            f"output {kind}: expected a signature {output.signature} in the "
            f"model, received {readable(', '.join(sorted(signatures)))}"
        )
    found = signatures[output.signature]["outputs"].get(output.name, {})
    shape = found.get("shape", [])
    if len(shape) != output.rank or not -1 <= shape[-1] <= WIDEST:
        raise UserError(
            f"output {kind}: expected {output.name} with {output.rank} dimensions in "
            f"the model, received {readable(str(found or 'no such output'))}"
        )
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
