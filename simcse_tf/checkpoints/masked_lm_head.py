"""The masked language model's head of a Hugging Face checkpoint."""

from collections.abc import Mapping
from pathlib import Path

import keras_hub
import numpy as np

from simcse_tf.checkpoints.architectures import ARCHITECTURES, WORDS, MaskedLMNames
from simcse_tf.checkpoints.model_config import read_model_config
from simcse_tf.checkpoints.resolve import is_keras_hub
from simcse_tf.checkpoints.sentence_transformers import read_modules
from simcse_tf.checkpoints.tensors import read_tensors
from simcse_tf.checkpoints.weights import canonical
from simcse_tf.core.json_files import read_json
from simcse_tf.encoders.pooling import WITH_HEAD


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
    if is_keras_hub(preset):
        return False
    encoder = read_modules(Path(preset), WITH_HEAD).encoder
    config = read_json(encoder / "config.json")
    architecture = read_model_config(config, str(encoder)).architecture
    tensors = read_tensors(encoder).tensors
    return set_masked_lm_head(head, canonical(tensors, architecture))


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
    for names in {each.masked_lm for each in ARCHITECTURES}:
        bias = next((name for name in names.bias if name in tensors), None)
        if bias is None or f"{names.dense}.weight" not in tensors:
            continue
        if not _shares_table(tensors, names):
            return False
        dense, norm = names.dense, names.norm
        head._intermediate_dense.set_weights(
            [tensors[f"{dense}.weight"].T, tensors[f"{dense}.bias"]]
        )
        head._intermediate_layer_norm.set_weights(
            [tensors[f"{norm}.weight"], tensors[f"{norm}.bias"]]
        )
        head._bias.assign(tensors[bias])
        return True
    return False


def _shares_table(tensors: Mapping[str, np.ndarray], names: MaskedLMNames) -> bool:
    """Whether the head's output table is the token embedding, as ours is."""
    if names.decoder not in tensors or WORDS not in tensors:
        return True
    return np.array_equal(tensors[names.decoder], tensors[WORDS])
