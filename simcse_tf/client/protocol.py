"""What is asked of a served model, and the requests that ask it; sends nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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

STRING = 7

# A request takes no further texts once it holds so many bytes. The Python server takes
# 8 MiB.
FULL_BYTES = 2 * 2**20

SIGNATURE_DEF = "signature_def"

# The signature that finds neighbours in an index, and the most for a text.
SEARCH = "search"
LARGEST_K = 1000
# The cosine where there is no neighbour, beyond any that there is.
NO_HIT = -2.0


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
    # Of a model with prompts for the two sides of a search.
    "query": Output("serving_query", "embedding", "float32"),
    "document": Output("serving_document", "embedding", "float32"),
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
        self.check_version(answer.version)
        width = answer.array.shape[1:]
        if self._width not in (None, width):
            raise UserError(
                f"expected rows of shape {self._width} from the server, as before, "
                f"received {width}"
            )
        self._width = width
        return answer.array

    def check_version(self, version: int) -> None:
        """Takes note of the version of an answer.

        Args:
            version: That of the next answer of the call.

        Raises:
            VersionChanged: An earlier answer came from another version.
        """
        if self._version is not None and self._version != version:
            raise VersionChanged(self._version, version)
        self._version = version


def embedding_output(kind: str) -> Output:
    """Returns the output of the model that gives embeddings of one kind.

    Args:
        kind: "float32", "int8", "binary", "query" or "document".

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


def paired(
    texts_a: Text | Sequence[Text], texts_b: Text | Sequence[Text]
) -> tuple[Sequence[Text], Sequence[Text]]:
    """Makes two columns of what is compared.

    Args:
        texts_a: Texts, or one text to compare with each of the others.
        texts_b: As many texts, or one.

    Raises:
        UserError: There are more on one side than on the other.

    Example:
    ```python
    paired("a", ["b", "c"])  # (["a", "a"], ["b", "c"])
    ```
    """
    if isinstance(texts_a, Text) and isinstance(texts_b, Text):
        return [texts_a], [texts_b]
    if isinstance(texts_a, Text):
        texts_a = [texts_a] * len(texts_b)
    if isinstance(texts_b, Text):
        texts_b = [texts_b] * len(texts_a)
    if len(texts_a) != len(texts_b):
        raise UserError(
            f"expected as many texts on both sides, or one text, received "
            f"{len(texts_a)} and {len(texts_b)}"
        )
    return texts_a, texts_b


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
        add_texts(request, name, texts)
    return request


def add_texts(
    request: messages_pb2.PredictRequest, name: str, texts: Sequence[bytes]
) -> None:
    """Adds texts to a request, as an input.

    Args:
        request: The request.
        name: The input's name.
        texts: Its strings.

    Example:
    ```python
    add_texts(request, "text", [b"A man plays."])
    ```
    """
    tensor = request.inputs.add(key=name).value
    tensor.dtype = STRING
    tensor.tensor_shape.dim.add(size=len(texts))
    tensor.string_val.extend(texts)


def _to_bytes(text: Text) -> bytes:
    if isinstance(text, str):
        # Half of a surrogate pair is not valid Unicode, but JSON and the command line
        # can bring it; the model is defined for the bytes that come out here.
        return text.encode("utf-8", "surrogatepass")
    if isinstance(text, bytes):
        return text
    raise TypeError(f"expected texts, received {text!r} among them")
