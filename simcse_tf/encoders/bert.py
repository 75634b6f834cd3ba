"""BERT's encoder as plain operations."""

from typing import Any

import keras_hub

from simcse_tf.encoders.transformer import PlainEncoder


class BertEncoder(PlainEncoder):
    """A `keras_hub.models.BertBackbone`: token, position and segment make a row.

    Args:
        backbone: See `Encoder`, also for the other arguments.

    Example:

    ```python
    encoder = BertEncoder(backbone, layers=(-1,))
    [hidden_states] = encoder.hidden_states(encoder.weights(), features)
    ```
    """

    def embeddings(self, backbone: keras_hub.models.Backbone) -> list[Any]:
        return [
            backbone.token_embedding,
            backbone.position_embedding,
            backbone.segment_embedding,
        ]
