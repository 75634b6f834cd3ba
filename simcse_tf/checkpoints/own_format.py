"""What our own presets hold beside KerasHub's files: settings and the head."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors import numpy as safetensors

from simcse_tf.core.errors import UserError
from simcse_tf.encoders.heads import head_tensors
from simcse_tf.tokenizers.base import Tokenizer

SETTINGS_FILE = "simcse.json"
HEAD_FILE = "head.safetensors"
TOKENIZER_KEY = "tokenizer"

# The settings that decide the embeddings, beside the weights and the tokenizer.
SETTINGS = (
    "pooling",
    "head_in_inference",
    "max_length",
    "activation",
    "layer_norm_epsilon",
    "dense",
    "prompt",
    "prompts",
)
# Older presets hold the objective's settings too. Embeddings do not depend on them.
_OBJECTIVES_SETTINGS = ("temperature", "hard_negative_weight")
# Older presets say whether GELU is exact.
_EXACT_GELU = "exact_gelu"


def is_own(directory: Path) -> bool:
    """Whether a directory holds a preset of ours.

    Example:

    ```python
    is_own(Path("runs/mine/best"))  # True
    ```
    """
    return (directory / SETTINGS_FILE).is_file()


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
    settings = {**settings, TOKENIZER_KEY: tokenizer.settings()}
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (directory / SETTINGS_FILE).write_text(text, "utf-8")


def read_settings(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the settings of a preset of ours, of this or an older release.

    Args:
        directory: The preset's directory.

    Returns:
        Tuple of two dictionaries: arguments of `SentenceEncoder`, and what
        `Tokenizer.settings` gave.

    Raises:
        UserError: If the file has a setting that is not known.

    Example:

    ```python
    read_settings(Path("runs/mine/best"))[0]["pooling"]  # "cls"
    ```
    """
    path = directory / SETTINGS_FILE
    saved = json.loads(path.read_text("utf-8"))
    tokenizer = saved.pop(TOKENIZER_KEY, None) or {}
    exact_gelu = saved.pop(_EXACT_GELU, False)
    known = SETTINGS + _OBJECTIVES_SETTINGS
    if unknown := [name for name in saved if name not in known]:
        raise UserError(
            f"{path}: unknown setting {', '.join(unknown)}: expected some of "
            f"{', '.join(SETTINGS)}; a newer simcse_tf may have written it"
        )
    settings = {name: saved[name] for name in SETTINGS if name in saved}
    return ({"activation": "gelu"} if exact_gelu else {}) | settings, tokenizer


def read_head(directory: Path) -> list[np.ndarray] | None:
    """The weights of a saved head in the order of `head.get_weights()`, if any.

    Example:

    ```python
    kernel, bias = read_head(Path("runs/mine/best"))
    ```
    """
    path = directory / HEAD_FILE
    if not path.is_file():
        return None
    tensors = safetensors.load_file(path)
    return [tensors[name] for name in sorted(tensors, key=_place)]


def _place(name: str) -> tuple[int, bool]:
    """Where a tensor stands: layer by layer, a layer's kernel before its bias."""
    layer, _, part = name.rpartition(".")
    return int(layer.removeprefix("dense_") or 0), part == "bias"
