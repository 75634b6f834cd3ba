"""`SimCSE` to and from a directory: KerasHub's preset, the head and the settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from simcse_tf.checkpoints.loaded import LoadedCheckpoint
from simcse_tf.checkpoints.own_format import write_own_files
from simcse_tf.core.errors import UserError
from simcse_tf.encoders.families import save_tokenizer
from simcse_tf.encoders.keras_layers import exact_lora

if TYPE_CHECKING:
    from simcse_tf.model.sentence_encoder import SentenceEncoder

HEAD_INITS = ("random", "pretrained")


def write_preset(model: SentenceEncoder, directory: Path) -> None:
    """Writes a model's files into an existing directory.

    Args:
        model: A `simcse_tf.SimCSE`.
        directory: The directory.

    Raises:
        OSError: If a file cannot be written.

    Example:

    ```python
    write_preset(model, Path("models/mine"))
    ```
    """
    with exact_lora(model.backbone):
        model.backbone.save_to_preset(str(directory))
    save_tokenizer(model.tokenizer, model.backbone, str(directory))
    write_own_files(directory, model.settings(), model.tokenizer, model.head)


def initialize_heads(
    heads: Iterable[keras.layers.Layer], head_init: str, checkpoint: LoadedCheckpoint
) -> None:
    """Gives the heads of a new model their weights.

    Args:
        heads: Built heads, with random weights.
        head_init: string. `"pretrained"` or `"random"`; see `SimCSE.from_preset`.
        checkpoint: What the model was loaded from.

    Raises:
        UserError: If `head_init` is unknown, or there is no pretrained head that
            fits.

    Example:

    ```python
    initialize_heads(model.heads(), "pretrained", checkpoint)
    ```
    """
    for head in heads:
        if head_init not in HEAD_INITS:
            raise UserError(
                f"`head_init` must be one of {', '.join(HEAD_INITS)}. "
                f"Received: {head_init!r}"
            )
        if head_init == "pretrained":
            _set_weights(head, checkpoint)


def _set_weights(head: keras.layers.Layer, checkpoint: LoadedCheckpoint) -> None:
    if checkpoint.head is None:
        raise UserError(
            f"{type(checkpoint.backbone).__name__} has no pretrained pooler to make "
            "the head from: choose head_init random and train it, or another pooling "
            "such as cls_before_pooler or avg"
        )
    expected = [tuple(variable.shape) for variable in head.weights]
    received = [each.shape for each in checkpoint.head]
    if received != expected:
        raise UserError(
            f"the head of {checkpoint.preset} does not fit: expected weights of the "
            f"shapes {expected}, received {received}; leave pooling and dense as the "
            "checkpoint has them, or choose head_init random"
        )
    head.set_weights(checkpoint.head)
