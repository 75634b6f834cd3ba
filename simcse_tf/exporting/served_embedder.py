"""A model's `predict` as one graph of strings: what every signature asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from simcse_tf.encoders.base import Weights
from simcse_tf.encoders.embedder import Embedder
from simcse_tf.exporting.bucketing import embed_in_buckets
from simcse_tf.model.inference import constant_weights
from simcse_tf.tokenizers.batch import cut

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE


class Embedded(NamedTuple):
    """What a model makes of `n` texts: tensors in the graph, NumPy arrays outside.

    Attributes:
        embedding: float32 `(n, dim)`.
        tokens: int32 `(n,)`. How many ids of each text the model reads, with the
            prompt's and those that begin and end it.
        truncated: bool `(n,)`. Whether the text had more.
    """

    embedding: Any
    tokens: Any
    truncated: Any


# Embeds texts behind a prompt, as `embedder` returns it.
Embed: TypeAlias = Callable[[tf.Tensor, str | None], Embedded]


def embedder(model: SimCSE) -> Embed:
    """A model's `predict` as one graph, in buckets of similar length.

    Equal texts are computed once: TF Serving fills a batch up with copies of its first
    row, and those cost nothing here.

    Args:
        model: A `simcse_tf.SimCSE`.

    Returns:
        Function of a string tensor `(n,)`, and optionally of the prompt before each
        text, that returns `Embedded`. It is traced once for all prompts.

    Example:

    ```python
    embedder(model)(tf.constant(["A man plays."])).embedding  # float32, (1, 768)
    ```
    """
    served = model.embedder
    if model.static_shapes:
        # It may be served on CPUs.
        served = Embedder(
            model.backbone, model.pooling, model.head, model.head_in_inference
        )
    weights = _StoredWeights(served, constant_weights(model))

    # One function for all signatures: its kernels and constants are in memory once. It
    # reads no variable, so that TensorFlow may run it for several buckets at a time.
    @tf.function(
        input_signature=[tf.RaggedTensorSpec([None, None], tf.int32), *weights.types],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    def pooled(tokens: tf.RaggedTensor, *matrices: tf.Tensor) -> tf.Tensor:
        vectors = served.pooled(model.pad(tokens), weights.with_matrices(matrices))
        return tf.cast(vectors, tf.float32)

    def embed_texts(text: tf.Tensor) -> Embedded:
        distinct, places = tf.unique(text)
        # One more tells whether a text is cut, and costs next to nothing.
        longer = model.tokens(distinct, model.max_length + 1, prompt="")
        tokens = cut(longer, model.max_length, model.tokenizer.sep_token_id)
        matrices = weights.matrices()
        vectors = embed_in_buckets(
            lambda bucket: pooled(bucket, *matrices), tokens, served.pooled_dim
        )
        embedded = Embedded(
            served.finished(vectors),
            tf.cast(tokens.row_lengths(), tf.int32),
            longer.row_lengths() > model.max_length,
        )
        return Embedded(*(tf.gather(each, places) for each in embedded))

    text_type = tf.TensorSpec([None], tf.string)
    traced = tf.function(embed_texts, input_signature=[text_type], autograph=False)

    def embed_behind(text: tf.Tensor, prompt: str | None = None) -> Embedded:
        prompt = model.prompt if prompt is None else prompt
        return traced(tf.strings.join([prompt, text]) if prompt else text)

    return embed_behind


class _StoredWeights:
    """The weights in the form that they are computed with: made once, not every time.

    Query, key and value are one matrix, for example, which is a copy of three. Matrices
    are variables. Vectors are constants, because a variable is four operations more of
    each request; so are matrices that are faster as such.

    Attributes:
        types: The types of the matrices.

    Args:
        served: The embedder.
        constants: See `constant_weights`.
    """

    def __init__(self, served: Embedder, constants: Weights):
        weights = {**served.weights(), **constants}
        self._weights = tf.nest.map_structure(_stored, weights)
        flat = tf.nest.flatten(self._weights)
        self._variables = [each for each in flat if isinstance(each, tf.Variable)]
        self.types = [tf.TensorSpec.from_tensor(each) for each in self.matrices()]

    def matrices(self) -> list[tf.Tensor]:
        """The variables' values."""
        return [*map(tf.convert_to_tensor, self._variables)]

    def with_matrices(self, matrices: Sequence[tf.Tensor]) -> Weights:
        """The weights, with those values of the variables."""
        values = iter(matrices)
        flat = [
            next(values) if isinstance(each, tf.Variable) else tf.constant(each)
            for each in tf.nest.flatten(self._weights)
        ]
        return tf.nest.pack_sequence_as(self._weights, flat)


def _stored(weight: tf.Tensor | np.ndarray) -> tf.Variable | np.ndarray:
    if isinstance(weight, np.ndarray):
        return weight
    is_vector = weight.shape.rank == 1
    return weight.numpy() if is_vector else tf.Variable(weight, trainable=False)
