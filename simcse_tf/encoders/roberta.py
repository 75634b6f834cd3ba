"""The encoder of RoBERTa, XLM-RoBERTa and DistilBERT as plain operations."""

from typing import Any

import keras_hub

from simcse_tf.encoders.transformer import PlainEncoder


class RobertaEncoder(PlainEncoder):
    """A backbone without segments, such as `keras_hub.models.RobertaBackbone`.

    RoBERTa's table of positions begins with two rows for padding in other libraries.
    KerasHub's, which this encoder reads, begins with a sentence's first token.

    Args:
        backbone: See `Encoder`, also for the other arguments.

    Example:

    ```python
    encoder = RobertaEncoder(backbone, layers=(-1,))
    [hidden_states] = encoder.hidden_states(encoder.weights(), features)
    ```
    """

    def embeddings(self, backbone: keras_hub.models.Backbone) -> list[Any]:
        both = backbone.embeddings
        return [both.token_embedding, both.position_embedding]
