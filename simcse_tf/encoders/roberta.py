"""The encoder of RoBERTa, XLM-RoBERTa and DistilBERT as plain operations."""

from typing import Any

import keras_hub
import tensorflow as tf

from simcse_tf.encoders.packing import Packing
from simcse_tf.encoders.transformer import PlainEncoder

# RoBERTa's padding token; all vocabularies of the family have it there.
PAD = 1


class DistilBertEncoder(PlainEncoder):
    """A `keras_hub.models.DistilBertBackbone`: BERT without segments.

    Args:
        backbone: See `Encoder`, also for the other arguments.

    Example:

    ```python
    encoder = DistilBertEncoder(backbone, layers=(-1,))
    [hidden_states] = encoder.hidden_states(encoder.weights(), features)
    ```
    """

    def embeddings(self, backbone: keras_hub.models.Backbone) -> list[Any]:
        both = backbone.embeddings
        return [both.token_embedding, both.position_embedding]


class RobertaEncoder(DistilBertEncoder):
    """A RoBERTa or XLM-RoBERTa backbone of KerasHub.

    RoBERTa's table of positions begins with two rows for padding in other libraries.
    KerasHub's, which this encoder reads, begins with a sentence's first token.

    A padding token within a text, where the tokenizer takes one for a control token,
    is not counted, and has the first token's position;
    `simcse_tf.checkpoints.weights.folded` makes its sum right.

    Args:
        backbone: See `Encoder`, also for the other arguments.

    Example:

    ```python
    encoder = RobertaEncoder(backbone, layers=(-1,))
    [hidden_states] = encoder.hidden_states(encoder.weights(), features)
    ```
    """

    def embed_positions(self, packing: Packing, table: tf.Tensor) -> tf.Tensor:
        is_pad = tf.cast(packing.token_ids == PAD, tf.int32)
        count = tf.cumsum(is_pad)
        # A sentence's first token is never one of them.
        before_sentence = tf.gather(count, packing.sentence_starts())
        positions = (packing.positions - count + before_sentence) * (1 - is_pad)
        return tf.gather(table, positions)
