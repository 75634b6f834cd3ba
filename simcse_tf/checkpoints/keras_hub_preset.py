"""Loads a preset in KerasHub's own format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_hub
from keras_hub.src.utils import preset_utils

from simcse_tf.checkpoints.keras_hub_files import PREPROCESSOR, TASK, check_preset
from simcse_tf.checkpoints.loaded import LoadedCheckpoint
from simcse_tf.checkpoints.own_format import SETTINGS_FILE
from simcse_tf.checkpoints.reading import describe
from simcse_tf.checkpoints.vocabulary_rows import check_rows
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, shown
from simcse_tf.encoders.base import longest_input
from simcse_tf.encoders.families import tokenizer_of
from simcse_tf.encoders.pooling import WITH_HEAD
from simcse_tf.tokenizers.base import Tokenizer

VOCABULARY = "assets/tokenizer/vocabulary.txt"
# The poolings of KerasHub's text embedders, and ours.
_POOLINGS = {"mean": "avg", "cls": "cls_before_pooler", "max": "max"}


def load_keras_hub(
    preset: str, pooling: str | None = None, **overrides: Any
) -> LoadedCheckpoint:
    """Loads a preset in KerasHub's own format.

    Args:
        preset: string. A directory, or KerasHub's name or handle.
        pooling: Optional string. The pooling in place of the preset's own.
        **overrides: Constructor arguments of the backbone.

    Raises:
        UserError: If a file is broken, its tokenizer is of no family of ours, or a
            handle leads to another format.
        Exception: See `load_backbone`.

    Example:

    ```python
    load_keras_hub("all_minilm_l6_v2_en").settings["pooling"]  # "avg"
    ```
    """
    check(preset)
    found = {} if pooling else _embedder(preset)
    backbone = load_backbone(preset, **overrides)
    tokenizer = load_tokenizer(preset)
    rows = backbone.token_embedding.input_dim
    notes = check_rows(
        tokenizer, rows, preset, Path(preset, VOCABULARY), only_padded=True
    )
    limit = longest_input(backbone)
    settings = {
        "pooling": pooling or found.get("pooling") or WITH_HEAD,
        "max_length": min(found.get("max_length") or limit, limit),
    }
    reading = describe(preset, settings, notes)
    return LoadedCheckpoint(preset, backbone, tokenizer, settings, None, reading)


def check(preset: str) -> None:
    """Checks the files of a preset before KerasHub reads them.

    Args:
        preset: string. A directory, or KerasHub's name or handle.

    Raises:
        UserError: If a file is broken, or a handle leads to another format, of which
            KerasHub would read a part.

    Example:

    ```python
    check("models/mine")
    ```
    """
    if Path(preset).is_dir():
        check_preset(Path(preset))
        return
    if "://" not in preset:
        return
    is_preset = "registered_name" in preset_utils.load_json(preset)
    is_own = preset_utils.check_file_exists(preset, SETTINGS_FILE)
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
        Exception: If KerasHub cannot load it. What it raises has no common class.

    Example:

    ```python
    load_backbone("bert_base_en_uncased", dropout=0.1)
    ```
    """
    return keras_hub.models.Backbone.from_preset(preset, **overrides)


def load_tokenizer(preset: str, **settings: Any) -> Tokenizer:
    """Loads a preset's vocabulary into our own, exact tokenizer.

    Args:
        preset: string. A directory, or KerasHub's name or handle.
        **settings: What `Tokenizer.settings` gave, if anything.

    Raises:
        UserError: If it is one of no known family.
        Exception: See `load_backbone`.

    Example:

    ```python
    load_tokenizer("bert_base_en_uncased").vocabulary_size  # 30522
    ```
    """
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(preset)
    return tokenizer_of(tokenizer, preset, **settings)


def _embedder(preset: str) -> dict[str, Any]:
    """What a preset's text embedder says, if the preset has one."""
    task = _read(preset, TASK)
    if not _is_of(task, "TextEmbedder"):
        if _is_of(_read(preset, PREPROCESSOR), "TextEmbedderPreprocessor"):
            raise UserError(
                f"{preset} has the {PREPROCESSOR} of a text embedder and no {TASK}, "
                "which says how it pools: copy it again, or choose a pooling yourself"
            )
        return {}
    config = task["config"]
    mode = config.get("pooling_mode", "mean")
    if mode not in _POOLINGS:
        raise UserError(
            f"{preset}: pooling_mode {shown(mode)} of its text embedder is not "
            f"computed here: expected one of {', '.join(_POOLINGS)}; choose a pooling "
            "yourself"
        )
    preprocessor = config.get("preprocessor")
    length = None
    if isinstance(preprocessor, Mapping):
        length = preprocessor["config"].get("sequence_length")
    if length is not None and (type(length) is not int or length < 2):
        raise UserError(f"{preset}: its sequence_length is {shown(length)}")
    return {"pooling": _POOLINGS[mode], "max_length": length}


def _read(preset: str, name: str) -> dict[str, Any]:
    if not preset_utils.check_file_exists(preset, name):
        return {}
    values = read_json(preset_utils.get_file(preset, name))
    return values if isinstance(values, dict) else {}


def _is_of(values: Mapping[str, Any], kind: str) -> bool:
    return str(values.get("registered_name")).endswith(kind)
