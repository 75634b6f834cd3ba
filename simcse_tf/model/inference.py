"""A model's embeddings from one traced graph: faster than Keras' `predict`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import tensorflow as tf

from simcse_tf.distributed.strategy import gpus
from simcse_tf.encoders.base import Weights
from simcse_tf.encoders.transformer import PlainEncoder
from simcse_tf.model.compilation import compiled, on_accelerator

if TYPE_CHECKING:
    from simcse_tf.model.keras_methods import KerasMethods

# Function of padded token ids and of their lengths.
Embed: TypeAlias = Callable[[np.ndarray, np.ndarray], tf.Tensor]

# Sentences and tokens of a batch that is not small.
_USUAL_BATCH = (8, 16)


class Inference:
    """Embeds token ids, with the weights as they are.

    The graph reads the model's variables, so one serves a model while it trains. Where
    the variables are on another GPU, copies are arguments of the graph, some 30
    microseconds each a call. No operation of a call runs outside the graph, so threads
    may share it: eager operations of several threads race on a GPU.

    Args:
        model: A `simcse_tf.SimCSE`.

    Example:

    ```python
    embed = Inference(model).now()
    embed(np.array([[101, 1037, 102]], np.int32), np.array([3]))  # float32, (1, dim)
    ```
    """

    def __init__(self, model: KerasMethods):
        self._model = model
        self._constants: Weights = {}
        self._values: list[np.ndarray] = []
        self._graphs: dict[tuple[bool, bool, bool], Any] = {}
        self._optimized: set[tuple[bool, str | None]] = set()
        self._weights = tf.function(self._read, autograph=False)

    def now(
        self,
        normalize: bool = True,
        jit_compile: bool = False,
        device: str | None = None,
    ) -> Embed:
        """A function from token ids to embeddings.

        Args:
            normalize: bool. Whether to l2-normalize the embeddings. Defaults to
                `True`.
            jit_compile: bool. Whether XLA compiles it, once for each shape of token
                ids; the model then needs static shapes. Defaults to `False`.
            device: Optional string, one of `devices_of`. Where it is computed, with a
                copy of the weights as they are now. Defaults to `None`: where the
                weights are.

        Returns:
            Function of token ids, an int32 array `(n, length)`, and of how many of
            each row are tokens, an int32 array `(n,)`. It returns a float32 tensor of
            shape `(n, dim)`.
        """
        if self._model.compute_dtype != "float32" and not on_accelerator():
            self._renew_constants()
        key = (normalize, jit_compile, device is not None)
        if key not in self._graphs:
            self._graphs[key] = self._trace(*key)
        graph = self._graphs[key]
        weights: Sequence[Any] = ()
        if device is not None:
            with tf.device(device):
                # What a function returns is where the function is called.
                weights = self._weights()

        def embed(token_ids: np.ndarray, lengths: np.ndarray) -> tf.Tensor:
            with tf.device("CPU"):
                inputs = tf.constant(token_ids), tf.constant(lengths)
            with _on(device):
                return graph(*inputs, *weights)

        if not jit_compile and (normalize, device) not in self._optimized:
            # The first call optimizes the graph, which several threads would each do,
            # and arranges constants as products of its size read them.
            self._optimized.add((normalize, device))
            embed(np.ones(_USUAL_BATCH, np.int32), np.full(*_USUAL_BATCH, np.int32))
        return embed

    def _renew_constants(self) -> None:
        """Reads the constants anew where a variable has another value."""
        variables = self._model.backbone.variables
        values = [np.asarray(tf.convert_to_tensor(each)) for each in variables]
        before, self._values = self._values, values
        # A value never changes, so what stands where a kept one stands is the same:
        # comparing all weights takes longer than embedding a few texts.
        if [*map(_place, values)] == [*map(_place, before)]:
            return
        constants = constant_weights(self._model)
        if not _equal(constants, self._constants):
            self._constants, self._graphs = constants, {}
            self._optimized.clear()

    def _read(self) -> tuple[Weights, list[tf.Tensor]]:
        """The weights of the encoder and those of the head."""
        embedder = self._model.embedder
        return embedder.weights(), embedder.head_weights()

    def _trace(self, normalize: bool, jit_compile: bool, copied: bool) -> Any:
        model, constants = self._model, self._constants

        def embed(token_ids: tf.Tensor, lengths: tf.Tensor, *copies: Any) -> Any:
            weights, head_weights = copies or self._read()
            return model.embedder.embed(
                model.features(token_ids, lengths),
                weights | constants,
                normalize=normalize,
                head_weights=head_weights,
            )

        if jit_compile:
            return compiled(embed)
        copies = self._weights() if copied else ()
        weights = tf.nest.map_structure(tf.TensorSpec.from_tensor, copies)
        inputs = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
        return tf.function(embed, [*inputs, *weights], autograph=False)


def devices_of(model: KerasMethods) -> list[str]:
    """The GPUs that can each have a copy of a model's weights; none if there is one.

    Args:
        model: A `simcse_tf.SimCSE`.

    Example:

    ```python
    devices_of(model)  # ["GPU:0", "GPU:1"]
    ```
    """
    devices = gpus()
    # Keras' layers read their own variables, wherever these are.
    divisible = isinstance(model.embedder.encoder, PlainEncoder)
    return devices if divisible and len(devices) > 1 else []


def _on(device: str | None) -> AbstractContextManager[None]:
    return nullcontext() if device is None else tf.device(device)


def constant_weights(model: KerasMethods) -> Weights:
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


def _place(value: np.ndarray) -> int:
    """Where an array's numbers stand in memory."""
    return value.ctypes.data


def _equal(one: Weights, other: Weights) -> bool:
    ones, others = tf.nest.flatten(one), tf.nest.flatten(other)
    return len(ones) == len(others) and all(map(np.array_equal, ones, others))
