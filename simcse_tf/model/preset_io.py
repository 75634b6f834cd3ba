"""`SimCSE` to and from a directory: KerasHub's preset, the head and the settings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
from safetensors import numpy as safetensors

from simcse_tf.core.errors import UserError
from simcse_tf.encoders import presets
from simcse_tf.encoders.base import longest_input
from simcse_tf.encoders.presets import LoadedCheckpoint

if TYPE_CHECKING:
    from simcse_tf.model.sentence_encoder import SentenceEncoder

SETTINGS_FILE = "simcse.json"
HEAD_FILE = "head.safetensors"
HEAD_INITS = ("random", "pretrained")

# The settings that decide the embeddings, beside the weights.
SETTINGS = ("pooling", "head_in_inference", "max_length", "exact_gelu")
# Older presets hold the objective's settings too. Embeddings do not depend on them.
_FORMER_SETTINGS = ("temperature", "hard_negative_weight")


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
    model.backbone.save_to_preset(str(directory))
    presets.save_tokenizer(model.tokenizer, str(directory))
    if model.head is not None:
        head = {v.name: v.numpy() for v in model.head.weights}
        (directory / HEAD_FILE).write_bytes(safetensors.save(head))
    text = json.dumps(model.settings(), indent=2) + "\n"
    (directory / SETTINGS_FILE).write_text(text, "utf-8")


def saved_settings(checkpoint: LoadedCheckpoint) -> dict[str, Any]:
    """The constructor's arguments that a checkpoint itself decides.

    Args:
        checkpoint: A loaded MODEL argument.

    Raises:
        UserError: If the checkpoint asks for what `SimCSE` does not have.

    Example:

    ```python
    saved_settings(load_checkpoint("runs/mine/best"))["pooling"]  # "cls"
    ```
    """
    own = Path(checkpoint.preset) / SETTINGS_FILE
    if own.is_file():
        return _read_settings(own)
    defaults = presets.checkpoint_defaults(checkpoint.preset)
    limit = longest_input(checkpoint.backbone)
    return {
        "pooling": defaults.pooling or "cls",
        "max_length": min(defaults.max_length or limit, limit),
        "exact_gelu": defaults.exact_gelu,
    }


def initialize_heads(
    heads: Iterable[keras.layers.Dense], head_init: str, checkpoint: LoadedCheckpoint
) -> None:
    """Gives the heads of a new model their weights.

    Args:
        heads: Built heads, with random weights.
        head_init: string. `"pretrained"` or `"random"`; see `SimCSE.from_preset`.
        checkpoint: What the model was loaded from.

    Raises:
        UserError: If `head_init` is unknown, or there is no pretrained head.

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
            head.set_weights(_pretrained_head(head, checkpoint))


def _pretrained_head(
    head: keras.layers.Dense, checkpoint: LoadedCheckpoint
) -> list[Any]:
    saved_head = Path(checkpoint.preset) / HEAD_FILE
    if saved_head.is_file():
        saved = safetensors.load_file(saved_head)
        return [saved[v.name] for v in head.weights]
    pooler = getattr(checkpoint.backbone, "pooled_dense", None)
    if pooler is None:
        raise UserError(
            f"{type(checkpoint.backbone).__name__} has no pretrained pooler to make "
            "the head from: choose head_init random and train it, or another pooling "
            "such as cls_before_pooler or avg"
        )
    return pooler.get_weights()


def _read_settings(path: Path) -> dict[str, Any]:
    settings = json.loads(path.read_text("utf-8"))
    if unknown := [
        name for name in settings if name not in SETTINGS + _FORMER_SETTINGS
    ]:
        raise UserError(
            f"{path}: unknown setting {', '.join(unknown)}: expected some of "
            f"{', '.join(SETTINGS)}; a newer simcse_tf may have written it"
        )
    return {name: settings[name] for name in SETTINGS if name in settings}
