"""ESimCSE's negatives: past batches, in a queue that a slower encoder fills."""

from typing import Any

import keras
import tensorflow as tf

from simcse_tf.distributed import collectives
from simcse_tf.objectives.base import EncoderCopy, Trainable
from simcse_tf.objectives.defaults import MOMENTUM
from simcse_tf.objectives.false_negatives import pair_ids
from simcse_tf.objectives.negatives import Negatives
from simcse_tf.objectives.views import Views, as_one_batch, micro_batch


@keras.saving.register_keras_serializable("simcse_tf")
class MomentumQueue(Negatives):
    """The positives of past batches, as a moving average of the encoder embeds them.

    After each step a copy of the encoder embeds the step's positives without dropout,
    and they take the places of the oldest ones in the queue. Then the copy's weights
    `m` move towards the encoder's `w`: `m <- momentum * m + (1 - momentum) * w`. The
    queue is the same on every replica; it is empty at first. Both are part of a
    checkpoint and no part of a saved preset. Of two encoders, the positives' is copied.

    Args:
        size: int. How many embeddings the queue holds. The paper takes 2.5 batches for
            BERT-base.
        momentum: float. Defaults to `0.995`.

    Example:

    ```python
    model.compile("adam", objective=Contrastive(negatives=[MomentumQueue(size=160)]))
    ```

    Reference:
        - [Wu et al. 2022](https://arxiv.org/abs/2109.04380), section 3.3
        - [He et al. 2020](https://arxiv.org/abs/1911.05722), section 3.2
    """

    def __init__(self, size: int, momentum: float = MOMENTUM):
        self.size = size
        self.momentum = momentum

    def build(self, model: Trainable) -> None:
        source = model.candidate_encoder()
        self._encoder = source.copied()
        self._encoder.trainable = False
        # What the loss compares has passed the head.
        self._encoder.embedder.head_in_inference = True
        self._weights, self._followed = _weights(self._encoder), _weights(source)
        for weight, followed in zip(self._weights, self._followed, strict=True):
            weight.assign(followed)
        self._queue = _Queue(self.size, self._encoder.embedding_dim)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        return [self._encoder, self._queue]

    def of_batch(
        self, positives: tf.Tensor, own: tf.Tensor, ids: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        queued = tf.convert_to_tensor(self._queue.embeddings)
        left_out = tf.reduce_all(queued == 0.0, axis=-1)[None]
        if ids is not None:
            own_ids, queued_ids = pair_ids(ids), tf.convert_to_tensor(self._queue.ids)
            same = own_ids[:, None, :, None] == queued_ids[None, :, None, :]
            left_out |= tf.reduce_any(same, axis=[2, 3])
        return queued[:, : positives.shape[-1]], left_out

    def after_update(self, views: Views, rows: Any, ids: tf.Tensor | None) -> None:
        embeddings = collectives.gather(self._embed(views, rows))
        # A batch that overflows in half precision must not stay in the queue.
        finite = tf.reduce_all(tf.math.is_finite(embeddings), axis=-1, keepdims=True)
        queued = [tf.where(finite, embeddings, 0.0)]
        if ids is None:
            ids = tf.zeros([tf.shape(views["token_ids"])[1], 1], tf.int64)
        queued.append(collectives.gather(pair_ids(ids)))
        variables = [*self._queue.weights, *self._weights]
        tensors = [
            tf.concat([new, tf.convert_to_tensor(old)], axis=0)[: self.size]
            for new, old in zip(queued, self._queue.weights, strict=True)
        ]
        for weight, followed in zip(self._weights, self._followed, strict=True):
            # In this form what does not move stays as it is, to the bit.
            tensors.append(weight + (1.0 - self.momentum) * (followed - weight))
        collectives.assign(variables, tensors)

    def _embed(self, views: Views, rows: Any) -> tf.Tensor:
        positives = {name: tensor[1:2] for name, tensor in views.items()}

        def embed(index: tf.Tensor) -> Any:
            part = micro_batch(positives, index, rows)
            return self._encoder.embedder.embed(as_one_batch(part))

        indices = tf.range(tf.shape(views["token_ids"])[1] // rows)
        # One at a time, as gradient caching has them.
        embeddings = tf.map_fn(
            embed, indices, parallel_iterations=1, fn_output_signature=tf.float32
        )
        return tf.reshape(embeddings, [-1, self._encoder.embedding_dim])

    def get_config(self) -> dict[str, Any]:
        return {"size": self.size, "momentum": self.momentum}


class _Queue(keras.layers.Layer):
    """Embeddings, newest first, and the ids of their rows' anchors and positives.

    A place that is not taken yet holds zeros, which no embedding is.
    """

    def __init__(self, size: int, dim: int):
        super().__init__(name="momentum_queue", dtype="float32", trainable=False)
        self.embeddings = self.add_weight((size, dim), "zeros", name="embeddings")
        # int64: XLA cannot touch int32 variables on a GPU.
        self.ids = self.add_weight((size, 2), "zeros", dtype="int64", name="ids")
        self.built = True


def _weights(encoder: EncoderCopy) -> list[keras.Variable]:
    head = encoder.head.weights if encoder.head is not None else []
    return [*encoder.backbone.weights, *head]
