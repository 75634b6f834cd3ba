"""What our own presets hold beside KerasHub's files: settings and the head."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from safetensors import numpy as safetensors

from simcse_tf.checkpoints import own_files
from simcse_tf.checkpoints.resolve import is_keras_hub
from simcse_tf.checkpoints.safetensors_file import read_safetensors
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, shortened, shown
from simcse_tf.core.regular_files import is_there
from simcse_tf.encoders.heads import head_tensors
from simcse_tf.encoders.pooling import WITH_HEAD
from simcse_tf.tokenizers.base import Tokenizer

SETTINGS_FILE = own_files.CARD
HEAD_FILE = "head.safetensors"
TOKENIZER_KEY = "tokenizer"

_NONE = type(None)
# The settings that decide the embeddings, beside the weights and the tokenizer, and the
# types of their values.
_TYPES: dict[str, tuple[type, ...]] = {
    "pooling": (str,),
    "head_in_inference": (bool,),
    "max_length": (int,),
    "activation": (str, _NONE),
    "layer_norm_epsilon": (float, int, _NONE),
    "dense": (list,),
    "prompt": (str,),
    "prompts": (dict,),
}
SETTINGS = tuple(_TYPES)
# Every release has written these.
_ALWAYS = ("pooling", "head_in_inference", "max_length")
# Older presets say whether GELU is exact.
_EXACT_GELU = "exact_gelu"
# Older presets hold the objective's settings too. Embeddings do not depend on them.
_OTHER_TYPES: dict[str, tuple[type, ...]] = {
    TOKENIZER_KEY: (dict, _NONE),
    _EXACT_GELU: (bool,),
    "temperature": (float, int),
    "hard_negative_weight": (float, int),
}
# What `head_tensors` calls its tensors.
_NAME = re.compile(r"(dense_[0-9]{1,4}\.)?(kernel|bias)")


class Card(NamedTuple):
    """What `simcse.json` says.

    Attributes:
        settings: Dictionary. Arguments of `SentenceEncoder`.
        tokenizer: Dictionary. What `Tokenizer.settings` gave.
        is_checked: bool. Whether the files are known to be those that were saved. Older
            releases noted none.
    """

    settings: dict[str, Any]
    tokenizer: dict[str, Any]
    is_checked: bool


def is_own(directory: Path) -> bool:
    """Whether a directory holds a preset of ours.

    Raises:
        UserError: If it does, and its settings are missing: it would otherwise be read
            as KerasHub's, with another pooling.

    Example:

    ```python
    is_own(Path("runs/mine/best"))  # True
    ```
    """
    if is_there(directory / SETTINGS_FILE):
        return True
    if not directory.is_dir() or not is_keras_hub(str(directory)):
        return False
    if own_files.is_marked(directory) or is_there(directory / HEAD_FILE):
        raise UserError(
            f"{directory / SETTINGS_FILE} is missing: simcse_tf wrote the directory, "
            "and embeddings follow from that file too; copy the directory again"
        )
    return False


def write_own_files(
    directory: Path,
    settings: dict[str, Any],
    tokenizer: Tokenizer,
    head: keras.layers.Layer | None,
) -> None:
    """Writes the settings and the head into a KerasHub preset.

    Args:
        directory: The preset's directory.
        settings: Dictionary with the keys `SETTINGS`.
        tokenizer: The tokenizer, for what KerasHub's format does not hold of it.
        head: Optional head.

    Raises:
        OSError: If a file cannot be written.

    Example:

    ```python
    write_own_files(directory, model.settings(), model.tokenizer, model.head)
    ```
    """
    if head is not None:
        tensors = safetensors.save(head_tensors(head))
        (directory / HEAD_FILE).write_bytes(tensors)
    own_files.mark(directory)
    settings = {**settings, TOKENIZER_KEY: tokenizer.settings()}
    card = {**settings, own_files.FILES_KEY: own_files.hashes(directory, settings)}
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (directory / SETTINGS_FILE).write_text(text, "utf-8")


def read_card(directory: Path) -> Card:
    """Reads the settings of a preset of ours, of this or an older release.

    Args:
        directory: The preset's directory.

    Raises:
        UserError: If the file is broken or has a setting that is not known, or the
            directory's files are not those that were saved. An older release has noted
            none of them.

    Example:

    ```python
    read_card(Path("runs/mine/best")).settings["pooling"]  # "cls"
    ```
    """
    path = directory / SETTINGS_FILE
    saved = read_json(path)
    if not isinstance(saved, dict):
        raise UserError(f"{path}: expected a JSON object, received {shown(saved)}")
    has_files = own_files.FILES_KEY in saved
    files = saved.pop(own_files.FILES_KEY, None)
    _check_settings(saved, path)
    if has_files:
        own_files.check(directory, saved, files)
    settings = {name: saved[name] for name in SETTINGS if name in saved}
    if saved.get(_EXACT_GELU):
        settings = {"activation": "gelu"} | settings
    if _has_head(settings) and not is_there(directory / HEAD_FILE):
        raise UserError(
            f"{directory / HEAD_FILE} is missing, and pooling {settings['pooling']} "
            "needs it: copy the directory again"
        )
    return Card(settings, saved.get(TOKENIZER_KEY) or {}, has_files)


def read_head(directory: Path) -> list[np.ndarray] | None:
    """The weights of a saved head in the order of `head.get_weights()`, if any.

    Raises:
        UserError: If the file is broken.

    Example:

    ```python
    kernel, bias = read_head(Path("runs/mine/best"))
    ```
    """
    path = directory / HEAD_FILE
    if not is_there(path):
        return None
    tensors = read_safetensors(path)
    if unknown := [name for name in tensors if not _NAME.fullmatch(name)]:
        raise UserError(f"{path} holds {shortened(unknown[0])}, which is of no head")
    return [tensors[name] for name in sorted(tensors, key=_place)]


def _check_settings(saved: Mapping[str, Any], path: Path) -> None:
    types = {**_TYPES, **_OTHER_TYPES}
    if unknown := [name for name in saved if name not in types]:
        raise UserError(
            f"{path}: unknown setting {shortened(', '.join(unknown))}: expected some "
            f"of {', '.join(SETTINGS)}; a newer simcse_tf may have written it"
        )
    if missing := [name for name in _ALWAYS if name not in saved]:
        raise UserError(f"{path} has no {missing[0]}: copy the directory again")
    for name, value in saved.items():
        # A bool is an int to Python.
        if type(value) not in types[name]:
            expected = " or ".join(each.__name__ for each in types[name])
            raise UserError(
                f"{path}: {name} must be of type {expected}, received {shown(value)}"
            )
    for name, part in (("dense", dict), ("prompts", str)):
        values = saved.get(name) or ()
        parts = values.values() if isinstance(values, dict) else values
        if not all(isinstance(each, part) for each in parts):
            raise UserError(f"{path}: {name} is {shown(values)}, which is no {name}")


def _has_head(settings: Mapping[str, Any]) -> bool:
    return settings["pooling"] == WITH_HEAD or bool(settings.get("dense"))


def _place(name: str) -> tuple[int, bool]:
    """Where a tensor stands: layer by layer, a layer's kernel before its bias."""
    layer, _, part = name.rpartition(".")
    return int(layer.removeprefix("dense_") or 0), part == "bias"
