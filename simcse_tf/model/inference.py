"""A model's embeddings from one traced graph: faster than Keras' `predict`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from simcse_tf.encoders.base import Features, Weights
from simcse_tf.encoders.ops import l2_normalize

if TYPE_CHECKING:
    from simcse_tf.model.sentence_encoder import SentenceEncoder


class Inference:
    """Embeds tokenized sentences, with the weights at the time that `now` is called.

    Weights are arguments of the graph, so one graph serves a model while it trains.

    Args:
        model: A `simcse_tf.SimCSE`.

    Example:

    ```python
    embed = Inference(model).now()
    embed(model.preprocess(["A man plays."]))  # float32, (1, dim)
    ```
    """

    def __init__(self, model: SentenceEncoder):
        self._model = model
        self._constants: Weights = {}
        self._graph: Any = None

    def now(self, normalize: bool = True) -> Callable[[Features], tf.Tensor]:
        """A function from token ids to embeddings, with the weights as they are now.

        Args:
            normalize: bool. Whether to l2-normalize the embeddings. Defaults to
                `True`.

        Returns:
            Function of what `SimCSE.preprocess` returns. It returns a float32 tensor
            of shape `(n, dim)`.
        """
        embedder = self._model.embedder
        constants = constant_weights(self._model)
        if self._graph is None or not _equal(constants, self._constants):
            self._constants, self._graph = constants, self._trace(constants)
        graph, weights = self._graph, embedder.weights()
        # The first call optimizes the graph. Several threads would each do it.
        token = tf.ones([1, 1], tf.int32)
        graph(weights, dict.fromkeys(self._model.backbone.input, token))

        def embed(features: Features) -> tf.Tensor:
            embeddings = graph(weights, features)
            return l2_normalize(embeddings) if normalize else embeddings

        return embed

    def _trace(self, constants: Weights) -> Any:
        embedder = self._model.embedder
        weights = tf.nest.map_structure(tf.TensorSpec.from_tensor, embedder.weights())
        tokens = tf.TensorSpec([None, None], tf.int32)

        def embed(weights: Weights, features: Features) -> tf.Tensor:
            return embedder.embed(features, weights | constants, normalize=False)

        features = dict.fromkeys(self._model.backbone.input, tokens)
        return tf.function(embed, [weights, features], autograph=False)


def constant_weights(model: SentenceEncoder) -> Weights:
    """Those of the embedder's weights that are faster as constants, as NumPy arrays.

    Half precision rearranges a matrix before a product: a constant once, any other
    matrix every time. In float32 there are none, and a graph stays small.

    Args:
        model: A `simcse_tf.SimCSE`.

    Example:

    ```python
    constant_weights(model)  # {} in float32
    ```
    """
    if model.compute_dtype == "float32":
        return {}
    weights = model.embedder.weights()
    if "layers" not in weights:
        return {}
    layers = tf.nest.map_structure(lambda each: each.numpy(), weights["layers"])
    return {"layers": layers}


def _equal(one: Weights, other: Weights) -> bool:
    return all(map(np.array_equal, tf.nest.flatten(one), tf.nest.flatten(other)))
