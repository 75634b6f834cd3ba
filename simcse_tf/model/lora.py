"""Low-rank adaptation: small matrices beside a backbone's, which stays as it is."""

from collections.abc import Sequence

import keras_hub

from simcse_tf.core.errors import UserError
from simcse_tf.encoders.keras_layers import dense_of, transformer_layers
from simcse_tf.model.simcse import SimCSE

# The matrices of a transformer layer.
TARGETS = ("query", "key", "value", "attention_output", "intermediate", "output")
# Those that the paper adapts, and `Backbone.enable_lora`.
DEFAULT_TARGETS = ("query", "value")


def enable_lora(
    model: SimCSE,
    rank: int,
    alpha: float | None = None,
    targets: Sequence[str] = DEFAULT_TARGETS,
) -> None:
    """Freezes a model's backbone, and trains matrices of a low rank beside its own.

    The head is trained as before. The model computes as before until the first step,
    as one matrix of each product is zero. A saved preset and an export hold the sums:
    they are those of any other model. Of two encoders both are adapted.

    Args:
        model: A `simcse_tf.SimCSE` on a backbone of transformer encoder layers, not
            compiled yet.
        rank: int. The products' inner dimension.
        alpha: Optional float. The products are multiplied by `alpha / rank`. Defaults
            to `rank`.
        targets: Sequence of strings. Which matrices of each transformer layer: some of
            `TARGETS`. Defaults to query and value.

    Raises:
        UserError: If the model is compiled, has no such layers or has been adapted
            already, or a target is unknown.

    Example:

    ```python
    enable_lora(model, rank=8, alpha=16)
    model.compile(keras.optimizers.Adam(1e-3))
    ```

    Reference:
        - [Hu et al. 2022](https://arxiv.org/abs/2106.09685), section 4.1
    """
    if not targets or not set(targets) <= set(TARGETS):
        raise UserError(
            f"LoRA's targets: expected some of {', '.join(TARGETS)}, received "
            f"{', '.join(targets) or 'none'}"
        )
    if model.compiled:
        raise UserError(
            "enable_lora: expected it before compile, which makes the optimizer of the "
            "variables that are trained"
        )
    positive = model.positive_encoder
    encoders = [model, *([positive] if positive is not None else [])]
    with model.distribute_strategy.scope():
        for encoder in encoders:
            _adapt(encoder.backbone, rank, alpha, targets)


def _adapt(
    backbone: keras_hub.models.Backbone,
    rank: int,
    alpha: float | None,
    targets: Sequence[str],
) -> None:
    # What no gradient reaches is frozen already.
    layers = [each for each in transformer_layers(backbone) if each.trainable]
    if not layers:
        raise UserError(
            "LoRA adapts transformer encoder layers, and "
            f"{type(backbone).__name__} has none that are trained: train all of it"
        )
    dense = [dense_of(layer)[name] for layer in layers for name in targets]
    if any(layer.lora_enabled for layer in dense):
        raise UserError("LoRA is enabled already: load the model anew to change it")
    for variable in backbone.variables:
        variable.trainable = False
    for layer in dense:
        # The layer's kernel is the sum from now on, in a saved file too.
        layer.enable_lora(rank, lora_alpha=alpha)
