"""The signatures of an export: what each returns, in the graph and in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import tensorflow as tf

from simcse_tf import quantization
from simcse_tf.core.errors import UserError
from simcse_tf.encoders.ops import l2_normalize
from simcse_tf.exporting.served_embedder import Embed, Embedded

QUANTIZATIONS = ("int8", "binary")
# What the texts of a search are: prompts of these names have a signature each.
ROLES = ("query", "document")


Arrays: TypeAlias = dict[str, np.ndarray]


class Endpoint(Protocol):
    """One way to ask a served model.

    Attributes:
        name: string.
        prompt: What stands before each text; `None` for the model's own.

    Example:

    ```python
    archive.add_endpoint(endpoint.name, *endpoint.function(embedder(model)))
    ```
    """

    @property
    def name(self) -> str: ...

    @property
    def prompt(self) -> str | None: ...

    def function(
        self, embed: Embed
    ) -> tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]:
        """The arguments of `keras.export.ExportArchive.add_endpoint`.

        Args:
            embed: As `embedder` returns it.

        Returns:
            The function, and the types of its arguments.
        """
        ...

    def example(
        self, texts: Sequence[bytes], embedded: Embedded
    ) -> tuple[Arrays, Arrays]:
        """A request and its answer, computed with NumPy.

        Args:
            texts: What is asked about.
            embedded: What the model makes of them.

        Returns:
            Inputs and outputs by name.
        """
        ...


@dataclass(frozen=True)
class Signature:
    """A way to ask for a function of embeddings; an `Endpoint`.

    Attributes:
        name: string.
        inputs: The names of its inputs, each a string tensor of shape `(n,)`.
        output: The name of its output.
        in_graph: Maps the float32 embeddings `(n, dim)` of each input to the output.
        reference: The same function in NumPy.
        prompt: What stands before each text; `None` for the model's own.

    Example:

    ```python
    signatures(768)[1].inputs  # ("text_a", "text_b")
    ```
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    in_graph: Callable[..., tf.Tensor]
    reference: Callable[..., np.ndarray]
    prompt: str | None = None

    def function(
        self, embed: Embed
    ) -> tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]:
        """See `Endpoint.function`."""

        def answer(*texts: tf.Tensor) -> dict[str, tf.Tensor]:
            # All inputs together, so that they share the buckets.
            together = embed(tf.concat(texts, axis=0), self.prompt).embedding
            embeddings = tf.split(together, list(map(tf.size, texts)))
            return {self.output: self.in_graph(*embeddings)}

        return answer, [tf.TensorSpec([None], tf.string, name) for name in self.inputs]

    def example(
        self, texts: Sequence[bytes], embedded: Embedded
    ) -> tuple[Arrays, Arrays]:
        """See `Endpoint.example`."""
        # Each input begins with another text: the cosine of a text with itself is 1.
        shifts = range(len(self.inputs))
        rotated = [np.array([*texts[i:], *texts[:i]], object) for i in shifts]
        rows = (np.roll(embedded.embedding, -i, axis=0) for i in shifts)
        answer = self.reference(*rows)
        return dict(zip(self.inputs, rotated, strict=True)), {self.output: answer}


@dataclass(frozen=True)
class TokenSignature:
    """A way to ask for embeddings and how much was read of each text; an `Endpoint`.

    Its outputs are those of `Embedded`. `serving_default` has one output alone, because
    TF Serving's REST answers have another form with several.

    Attributes:
        name: string.
        prompt: What stands before each text; `None` for the model's own.

    Example:

    ```python
    signature = TokenSignature("serving_tokens")
    archive.add_endpoint(signature.name, *signature.function(embedder(model)))
    ```
    """

    name: str
    prompt: str | None = None

    def function(
        self, embed: Embed
    ) -> tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]:
        """See `Endpoint.function`."""

        def answer(text: tf.Tensor) -> dict[str, tf.Tensor]:
            return embed(text, self.prompt)._asdict()

        return answer, [tf.TensorSpec([None], tf.string, "text")]

    def example(
        self, texts: Sequence[bytes], embedded: Embedded
    ) -> tuple[Arrays, Arrays]:
        """See `Endpoint.example`."""
        return {"text": np.array(texts, object)}, embedded._asdict()


def signatures(
    dim: int,
    truncate_dims: Sequence[int] = (),
    quantize: Sequence[str] = (),
    prompts: Mapping[str, str] | None = None,
) -> list[Endpoint]:
    """The signatures of an export: the four that each has, and the optional ones.

    Args:
        dim: int. Dimensions of the model's embeddings.
        truncate_dims: ints below `dim`. Adds `serving_N` for each.
        quantize: Some of `QUANTIZATIONS`. Adds `serving_int8`, `serving_binary`.
        prompts: Optional dictionary of named prompts. If one is called `query` or
            `document`, adds `serving_query` and `serving_document`: texts behind that
            prompt, or behind the model's own where it has none of that name; and
            `serving_query_tokens` and `serving_document_tokens` in the same way.

    Returns:
        list of `Endpoint`.

    Raises:
        UserError: If one of `truncate_dims` is not below `dim`, or one of `quantize`
            is unknown.

    Example:

    ```python
    [each.name for each in signatures(768, [256])]
    # ["serving_default", "similarity", "ready", "serving_tokens", "serving_256"]
    ```
    """
    for dims in truncate_dims:
        if not 1 <= dims < dim:
            raise UserError(
                f"--truncate-dims: expected 1 to {dim - 1} dimensions of the model's "
                f"{dim}, received {dims}"
            )
    for kind in quantize:
        if kind not in QUANTIZATIONS:
            raise UserError(
                f"--quantize: expected some of {', '.join(QUANTIZATIONS)}, "
                f"received {kind}"
            )
    optional = {
        "int8": _of_text(
            "serving_int8", "embedding_int8", _int8, quantization.encode_int8
        ),
        "binary": _of_text(
            "serving_binary", "embedding_bits", _bits, quantization.encode_binary
        ),
    }
    return [
        _of_text("serving_default", "embedding", tf.identity, np.asarray),
        Signature(
            "similarity",
            ("text_a", "text_b"),
            "cosine_similarity",
            lambda a, b: tf.reduce_sum(a * b, axis=1),
            lambda a, b: (a * b).sum(axis=1),
        ),
        # For probes. TF Serving has a queue for each signature, so a probe does not
        # wait behind everybody's texts.
        _of_text(
            "ready",
            "length",
            lambda embeddings: tf.norm(embeddings, axis=1),
            lambda embeddings: np.linalg.norm(embeddings, axis=1),
        ),
        TokenSignature("serving_tokens"),
        *map(_truncated, dict.fromkeys(truncate_dims)),
        *(optional[kind] for kind in dict.fromkeys(quantize)),
        *_prompted(prompts or {}),
    ]


def _of_text(
    name: str,
    output: str,
    in_graph: Callable[[tf.Tensor], tf.Tensor],
    reference: Callable[[np.ndarray], np.ndarray],
) -> Signature:
    return Signature(name, ("text",), output, in_graph, reference)


def _prompted(prompts: Mapping[str, str]) -> list[Endpoint]:
    if not prompts.keys() & set(ROLES):
        return []
    plain = _of_text("", "embedding", tf.identity, np.asarray)
    behind = {f"serving_{role}": prompts.get(role) for role in ROLES}
    return [
        *(replace(plain, name=name, prompt=prompt) for name, prompt in behind.items()),
        *(TokenSignature(f"{name}_tokens", prompt) for name, prompt in behind.items()),
    ]


def _truncated(dims: int) -> Signature:
    return _of_text(
        f"serving_{dims}",
        "embedding",
        lambda embeddings: l2_normalize(embeddings[:, :dims]),
        lambda embeddings: quantization.truncate(embeddings, dims),
    )


def _int8(embeddings: tf.Tensor) -> tf.Tensor:
    largest = tf.reduce_max(tf.abs(embeddings), axis=1, keepdims=True)
    steps = tf.math.divide_no_nan(embeddings, largest) * quantization.INT8_LIMIT
    return tf.cast(tf.round(steps), tf.int8)


def _bits(embeddings: tf.Tensor) -> tf.Tensor:
    bits = tf.cast(embeddings > 0, tf.int32)
    whole_bytes = math.ceil(bits.shape[1] / 8)
    bits = tf.pad(bits, [[0, 0], [0, 8 * whole_bytes - bits.shape[1]]])
    bytes_ = tf.reshape(bits, [-1, whole_bytes, 8])
    highest_first = tf.constant([128, 64, 32, 16, 8, 4, 2, 1])
    return tf.cast(tf.reduce_sum(bytes_ * highest_first, axis=2), tf.uint8)
