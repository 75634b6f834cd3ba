"""What older releases of KerasHub cannot do, in one place.

Python 3.10 ends at KerasHub 0.25. That release reads Hugging Face's BERT checkpoints
only if the tensors have the names of the first checkpoints: `bert.` in front, and
LayerNorm's `gamma` and `beta`. Later releases find today's names too
(https://github.com/keras-team/keras-hub/blob/master/keras_hub/src/utils/transformers/convert_bert.py).
"""

import sys
from typing import Any

NEWER_NAMES = (
    ("LayerNorm.gamma", "LayerNorm.weight"),
    ("LayerNorm.beta", "LayerNorm.bias"),
)


def read_newer_bert_checkpoints() -> None:
    """Lets KerasHub 0.25 find today's tensor names.

    Does nothing from Python 3.11 on, and nothing the second time.

    Example:

    ```python
    read_newer_bert_checkpoints()
    keras_hub.models.Backbone.from_preset("path/to/a/hugging/face/bert")
    ```
    """
    if sys.version_info >= (3, 11):
        return
    from keras_hub.src.utils.transformers import safetensor_utils

    loader = safetensor_utils.SafetensorLoader
    if getattr(loader.get_prefixed_key, "__module__", "") == __name__:
        return
    original = loader.get_prefixed_key

    def get_prefixed_key(self: Any, key: str, tensors: Any) -> str:
        return newer_name(key, set(tensors.keys())) or original(self, key, tensors)

    loader.get_prefixed_key = get_prefixed_key


def newer_name(key: str, names: set[str]) -> str | None:
    """Finds the name under which a checkpoint keeps what `key` once named.

    Args:
        key: string. A tensor's name in the first checkpoints.
        names: set of string. The tensors' names in this checkpoint.

    Returns:
        string, one of `names`; `None` if none of them fits.

    Example:

    ```python
    newer_name("bert.LayerNorm.gamma", {"LayerNorm.weight"})  # "LayerNorm.weight"
    ```
    """
    renamed = key
    for old, new in NEWER_NAMES:
        renamed = renamed.replace(old, new)
    candidates = (
        key,
        renamed,
        key.removeprefix("bert."),
        renamed.removeprefix("bert."),
    )
    return next((name for name in candidates if name in names), None)
