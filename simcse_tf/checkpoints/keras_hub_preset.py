"""Loads a preset in KerasHub's own format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_hub
import tensorflow as tf
from keras_hub.src.utils import preset_utils

from simcse_tf.checkpoints.loaded import LoadedCheckpoint
from simcse_tf.checkpoints.own_format import SETTINGS_FILE
from simcse_tf.checkpoints.reading import describe
from simcse_tf.core.errors import UserError
from simcse_tf.encoders.base import longest_input
from simcse_tf.encoders.families import tokenizer_of
from simcse_tf.encoders.pooling import WITH_HEAD
from simcse_tf.tokenizers.base import Tokenizer

# The poolings of KerasHub's text embedders, and ours.
_POOLINGS = {"mean": "avg", "cls": "cls_before_pooler", "max": "max"}
# What is raised for a preset that is not there, not whole or of another kind.
_FAILURES = (ValueError, OSError, KeyError, TypeError, RuntimeError)


def load_keras_hub(
    preset: str, pooling: str | None = None, **overrides: Any
) -> LoadedCheckpoint:
    """Loads a preset in KerasHub's own format.

    Args:
        preset: string. A directory, or KerasHub's name or handle.
        pooling: Optional string. The pooling in place of the preset's own.
        **overrides: Constructor arguments of the backbone.

    Raises:
        UserError: If KerasHub cannot load it, its tokenizer is of no family of ours, or
            a handle leads to another format.

    Example:

    ```python
    load_keras_hub("all_minilm_l6_v2_en").settings["pooling"]  # "avg"
    ```
    """
    _check_format(preset)
    backbone = load_backbone(preset, **overrides)
    tokenizer = load_tokenizer(preset)
    limit = longest_input(backbone)
    found = {} if pooling else _embedder(preset)
    settings = {
        "pooling": pooling or found.get("pooling") or WITH_HEAD,
        "max_length": min(found.get("max_length") or limit, limit),
    }
    reading = describe(preset, settings)
    return LoadedCheckpoint(preset, backbone, tokenizer, settings, None, reading)


def _check_format(preset: str) -> None:
    """A handle may lead to another format, of which KerasHub would read a part."""
    if "://" not in preset or Path(preset).is_dir():
        return
    try:
        is_preset = "registered_name" in preset_utils.load_json(preset)
        is_own = preset_utils.check_file_exists(preset, SETTINGS_FILE)
    except (*_FAILURES, tf.errors.OpError) as error:
        raise UserError(f"cannot load {preset}: {error}") from error
    if is_own or not is_preset:
        raise UserError(
            f"{preset} is not in KerasHub's format, and it would read the encoder "
            "alone: download it, and give the directory"
        )


def load_backbone(preset: str, **overrides: Any) -> keras_hub.models.Backbone:
    """Loads the encoder with its weights.

    Args:
        preset: string. A directory, or KerasHub's name or handle.
        **overrides: Constructor arguments of the backbone, such as `dropout`
            (which KerasHub then applies wherever the architecture does) or
            `dtype`.

    Raises:
        UserError: If KerasHub cannot load it; the message has the reason.

    Example:

    ```python
    load_backbone("bert_base_en_uncased", dropout=0.1)
    ```
    """
    try:
        return keras_hub.models.Backbone.from_preset(preset, **overrides)
    except _FAILURES as error:
        raise UserError(f"cannot load {preset}: {error}") from error


def load_tokenizer(preset: str, **settings: Any) -> Tokenizer:
    """Loads a preset's vocabulary into our own, exact tokenizer.

    Args:
        preset: string. A directory, or KerasHub's name or handle.
        **settings: What `Tokenizer.settings` gave, if anything.

    Raises:
        UserError: If the preset has none, or one of no known family.

    Example:

    ```python
    load_tokenizer("bert_base_en_uncased").vocabulary_size  # 30522
    ```
    """
    try:
        tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(preset)
    except _FAILURES as error:
        raise UserError(f"cannot load the tokenizer of {preset}: {error}") from error
    return tokenizer_of(tokenizer, preset, **settings)


def _embedder(preset: str) -> dict[str, Any]:
    """What a preset's text embedder says, if the preset has one."""
    if not preset_utils.check_file_exists(preset, preset_utils.TASK_CONFIG_FILE):
        return {}
    task = preset_utils.load_json(preset, preset_utils.TASK_CONFIG_FILE)
    if not str(task.get("registered_name")).endswith("TextEmbedder"):
        return {}
    config = task["config"]
    mode = config.get("pooling_mode", "mean")
    if mode not in _POOLINGS:
        raise UserError(
            f"{preset}: pooling_mode {mode!r} of its text embedder is not computed "
            f"here: expected one of {', '.join(_POOLINGS)}; choose a pooling yourself"
        )
    preprocessor = config.get("preprocessor")
    length = None
    if isinstance(preprocessor, Mapping):
        length = preprocessor.get("config", {}).get("sequence_length")
    return {"pooling": _POOLINGS[mode], "max_length": length}
