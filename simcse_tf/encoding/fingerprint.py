"""What tells one model's embeddings from another's."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE


def model_fingerprint(model: SimCSE) -> str:
    """A digest of everything that decides an embedding.

    Args:
        model: A `simcse_tf.SimCSE`.

    Example:

    ```python
    model_fingerprint(model)  # "9f86d08188..."
    ```
    """
    backbone = model.backbone.get_config()
    # Keras counts the models of a process in it.
    backbone.pop("name", None)
    about = {**model.description(), "backbone": backbone}
    text = json.dumps(about, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for weight in model.weights:
        # The rest are the states of random generators.
        if "float" in weight.dtype:
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()
