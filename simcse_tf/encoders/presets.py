"""What a MODEL argument names: presets, directories and packaged weights."""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_hub
from keras_hub.src.utils import preset_utils

from simcse_tf.core.errors import UserError
from simcse_tf.encoders import compat
from simcse_tf.encoders.families import tokenizer_of
from simcse_tf.tokenizers.base import Tokenizer

PACKAGE_SCHEME = "package://"

# The fields of a sentence-transformers `1_Pooling/config.json` and our names.
_SENTENCE_TRANSFORMERS_POOLING = {
    "pooling_mode_cls_token": "cls_before_pooler",
    "pooling_mode_mean_tokens": "avg",
}


@dataclass(frozen=True)
class Defaults:
    """The settings that a checkpoint itself asks for, where it has any."""

    pooling: str | None = None
    max_length: int | None = None
    exact_gelu: bool = False


def resolve(model: str) -> str:
    """Turns a MODEL argument into what KerasHub's `from_preset` takes.

    Args:
        model: string. A local directory, a KerasHub preset name or handle, or
            `package://PACKAGE/PATH` for a directory inside an installed package.

    Returns:
        string. A directory's path, or the name or handle unchanged.

    Raises:
        UserError: If the package or directory does not exist, or KerasHub
            has no preset of that name.

    Example:

    ```python
    resolve("bert_base_en_uncased")  # unchanged: KerasHub knows it
    ```
    """
    if model.startswith(PACKAGE_SCHEME):
        return str(_package_directory(model))
    if Path(model).is_dir():
        if not (Path(model) / "config.json").is_file():
            raise UserError(
                f"{model} holds no model: expected a config.json in it, as train, "
                "KerasHub and Hugging Face write"
            )
        return model
    if "://" in model or model in keras_hub.models.Backbone.presets:
        return model
    raise UserError(
        f"no model {model!r}: expected a directory, a KerasHub preset such as "
        "bert_base_en_uncased, a handle (kaggle://, hf://) or package://PACKAGE/PATH"
    )


def _package_directory(model: str) -> Path:
    package, _, path = model.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{model}: no package {package!r} is installed")
    directory = Path(next(iter(spec.submodule_search_locations)), path)
    if not (directory / "config.json").is_file():
        raise UserError(f"{model}: no model (config.json) in {path!r} of {package!r}")
    return directory


def load_backbone(preset: str, **overrides: Any) -> keras_hub.models.Backbone:
    """Loads the encoder with its weights.

    Args:
        preset: string. As `resolve` returns it.
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
    compat.read_newer_bert_checkpoints()
    try:
        return keras_hub.models.Backbone.from_preset(preset, **overrides)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"cannot load {preset}: {error}") from error


def load_tokenizer(preset: str, **settings: Any) -> Tokenizer:
    """Loads a preset's vocabulary into our own, exact tokenizer.

    Args:
        preset: string. As `resolve` returns it.
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
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"cannot load the tokenizer of {preset}: {error}") from error
    return tokenizer_of(tokenizer, preset, **settings)


def checkpoint_defaults(preset: str) -> Defaults:
    """Reads the settings that a Hugging Face or sentence-transformers model asks for.

    Args:
        preset: string. As `resolve` returns it.

    Returns:
        `Defaults`, `None` where the checkpoint has no such setting.

    Raises:
        UserError: If it asks for a pooling that SimCSE does not have.

    Example:

    ```python
    checkpoint_defaults("path/to/minilm").pooling  # "avg"
    ```
    """
    directory = Path(preset)
    return Defaults(
        _pooling(directory / "1_Pooling" / "config.json"),
        _read_json(directory / "sentence_bert_config.json").get("max_seq_length"),
        # In Hugging Face's terms "gelu" is the exact one.
        preset_utils.load_json(preset).get("hidden_act") == "gelu",
    )


def _pooling(path: Path) -> str | None:
    config = _read_json(path)
    wanted = [key for key in config if key.startswith("pooling_mode_") and config[key]]
    if not wanted:
        return None
    if len(wanted) > 1 or wanted[0] not in _SENTENCE_TRANSFORMERS_POOLING:
        raise UserError(
            f"{path} asks for {' and '.join(wanted)}, which has no counterpart here; "
            "choose a pooling yourself"
        )
    return _SENTENCE_TRANSFORMERS_POOLING[wanted[0]]


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
