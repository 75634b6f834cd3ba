"""The masked language model's head of a Hugging Face checkpoint."""

from collections.abc import Mapping
from pathlib import Path

import keras_hub
import numpy as np
from safetensors import safe_open

# For each architecture: the dense layer, the layer normalization behind it, and the
# biases of the tokens.
_NAMES = {
    "bert": (
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
    ),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "distilbert": ("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
}
# The names in checkpoints of the first releases.
_FORMER_NAMES = {".gamma": ".weight", ".beta": ".bias"}


def load_masked_lm_head(head: keras_hub.layers.MaskedLMHead, preset: str) -> bool:
    """Gives a masked-LM head the weights that a local Hugging Face checkpoint holds.

    Args:
        head: A built head on the embedding of that checkpoint's backbone. It stays
            as it is where the checkpoint has none.
        preset: string. A directory's path, or what is none.

    Returns:
        Whether the checkpoint has them.

    Example:

    ```python
    head = masked_lm_head(backbone, tokenizer)
    load_masked_lm_head(head, "path/to/bert")  # True
    ```
    """
    path = Path(preset) / "model.safetensors"
    if not path.is_file():
        return False
    with safe_open(path, "numpy") as file:
        tensors = {
            _present_name(name): file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118, as `safe_open` is no mapping
            if name.startswith(("cls.predictions.", "lm_head.", "vocab_"))
        }
    return set_masked_lm_head(head, tensors)


def set_masked_lm_head(
    head: keras_hub.layers.MaskedLMHead, tensors: Mapping[str, np.ndarray]
) -> bool:
    """Gives a masked-LM head the weights that stand among some tensors.

    Args:
        head: A built head. It stays as it is where they hold none.
        tensors: Arrays by their names in Hugging Face's checkpoints.

    Returns:
        Whether the tensors hold a head of a known architecture.

    Example:

    ```python
    set_masked_lm_head(head, {"lm_head.dense.weight": weight, ...})  # True
    ```
    """
    for dense, norm, bias in _NAMES.values():
        if bias not in tensors or f"{dense}.weight" not in tensors:
            continue
        head._intermediate_dense.set_weights(
            [tensors[f"{dense}.weight"].T, tensors[f"{dense}.bias"]]
        )
        head._intermediate_layer_norm.set_weights(
            [tensors[f"{norm}.weight"], tensors[f"{norm}.bias"]]
        )
        head._bias.assign(tensors[bias])
        return True
    return False


def _present_name(name: str) -> str:
    for former, present in _FORMER_NAMES.items():
        if name.endswith(former):
            return name.removesuffix(former) + present
    return name
