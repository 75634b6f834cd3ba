"""What a MODEL argument turned out to hold."""

from dataclasses import dataclass
from typing import Any

import keras_hub
import numpy as np

from simcse_tf.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class LoadedCheckpoint:
    """What a MODEL argument named.

    Attributes:
        preset: string. A directory's path, or KerasHub's name or handle.
        backbone: The encoder with its weights.
        tokenizer: The tokenizer of the checkpoint.
        settings: Dictionary. The arguments of `SentenceEncoder` that the checkpoint
            decides.
        head: Optional list of arrays. The head's weights in the order of
            `head.get_weights()`: the pooler's for `"cls"`, or those of the dense
            layers. `None` where there are none.
        reading: Optional string. One line on how a foreign model was read. `None` for
            one of our own.
    """

    preset: str
    backbone: keras_hub.models.Backbone
    tokenizer: Tokenizer
    settings: dict[str, Any]
    head: list[np.ndarray] | None = None
    reading: str | None = None
