"""A backbone's weights from Hugging Face's tensors, and as such tensors."""

import re
from collections.abc import Mapping
from typing import Any

import keras_hub
import numpy as np

from simcse_tf.checkpoints.architectures import (
    POOLER,
    POSITIONS,
    TOKEN_TYPES,
    Architecture,
    Parameter,
    architecture_of,
    parameters,
)
from simcse_tf.core.errors import UserError

Tensors = dict[str, np.ndarray]

# SimCSE's own head, in checkpoints of the paper's training code.
MLP = ("mlp.dense.weight", "mlp.dense.bias")
# What wrappers put before all names.
_WRAPPERS = ("module.", "model.", "0.auto_model.", "auto_model.", "0.model.")
# Tensors that an embedding does not follow from: buffers, and heads of other tasks.
_NOT_READ = re.compile(
    r"embeddings\.(position_ids|token_type_ids)$|cls\.|lm_head\.|vocab_transform\.|"
    r"vocab_layer_norm\.|vocab_projector\.|classifier\.|pre_classifier\.|qa_outputs\.|"
    r"pooler\.dense\.|mlp\.dense\."
)
_SHOWN = 3


def canonical(tensors: Mapping[str, Any], architecture: Architecture) -> dict[str, Any]:
    """Tensors under the names that the family's plain encoder gives them.

    Args:
        tensors: What the checkpoint holds, by name.
        architecture: Its family.

    Returns:
        Dictionary with the same values: prefixes of wrappers and of the family are
        gone, and a LayerNorm has `weight` and `bias`, which first releases called
        `gamma` and `beta`.

    Raises:
        UserError: If two tensors have one name then.

    Example:

    ```python
    list(canonical({"bert.embeddings.LayerNorm.gamma": gamma}, bert))
    # ["embeddings.LayerNorm.weight"]
    ```
    """
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        plain = _plain_name(name, architecture.prefix + ".")
        if plain in found:
            raise UserError(
                f"the checkpoint holds {plain} twice, as {name} and under another "
                "prefix: expected one encoder"
            )
        found[plain] = tensor
    return found


def _plain_name(name: str, prefix: str) -> str:
    shorter = True
    while shorter:
        shorter = False
        for wrapper in (*_WRAPPERS, prefix):
            if name.startswith(wrapper):
                name, shorter = name.removeprefix(wrapper), True
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def assign(
    backbone: keras_hub.models.Backbone, tensors: Mapping[str, Any], offset: int
) -> None:
    """Gives a backbone the weights of a checkpoint, each tensor exactly once.

    Args:
        backbone: A backbone of one of `ARCHITECTURES`.
        tensors: What `canonical` returned. BERT's pooler is taken over if it is
            there, and is zero if not.
        offset: int. Rows of the table of positions before the first token's.

    Raises:
        UserError: If a tensor is missing, has another shape or is not known.

    Example:

    ```python
    assign(backbone, canonical(read_tensors(directory), bert), offset=0)
    ```
    """
    architecture = architecture_of(backbone)
    wanted = parameters(backbone)
    if architecture.pads_positions:
        tensors = folded(tensors, offset)
    used = {each.name for each in wanted}
    unknown = [name for name in tensors if name not in used]
    if unknown := [name for name in unknown if not _NOT_READ.match(name)]:
        raise UserError(
            f"the checkpoint holds {_some(unknown)}, which no "
            f"{architecture.model_class} has: it computes something else"
        )
    values = [(each.variable, _value(each, tensors)) for each in wanted]
    for variable, value in values:
        variable.assign(value)
    if isinstance(backbone, keras_hub.models.BertBackbone):
        pooler = dense_weights(tensors, POOLER, backbone.hidden_dim)
        zero = [np.zeros(v.shape, np.float32) for v in backbone.pooled_dense.weights]
        backbone.pooled_dense.set_weights(zero if pooler is None else pooler)


def _value(parameter: Parameter, tensors: Mapping[str, Any]) -> np.ndarray:
    if parameter.name not in tensors:
        held = _some(list(tensors)) if tensors else "no tensors"
        raise UserError(
            f"the checkpoint has no tensor {parameter.name}: it holds {held}"
        )
    return parameter.value_of(shaped(tensors, parameter.name, parameter.shape))


def shaped(tensors: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor in float32, its shape checked.

    Raises:
        UserError: If it has another shape.

    Example:

    ```python
    shaped(tensors, "pooler.dense.bias", (768,))
    ```
    """
    array = np.asarray(tensors[name])
    if array.shape != shape:
        raise UserError(
            f"the checkpoint's {name} has the shape {array.shape}: expected {shape}, "
            "as config.json says"
        )
    return array.astype(np.float32)


def dense_weights(
    tensors: Mapping[str, Any], names: tuple[str, str], width: int
) -> list[np.ndarray] | None:
    """Kernel and bias of a dense layer from `width` to `width` columns, if it is there.

    Args:
        tensors: What `canonical` returned.
        names: The names of weight and bias.
        width: int.

    Raises:
        UserError: If one of the two is missing, or has another shape.

    Example:

    ```python
    kernel, bias = dense_weights(tensors, POOLER, 768)
    ```
    """
    missing = [name for name in names if name not in tensors]
    if len(missing) == len(names):
        return None
    if missing:
        raise UserError(f"the checkpoint has no tensor {missing[0]}")
    weight, bias = names
    kernel = shaped(tensors, weight, (width, width)).T
    return [kernel, shaped(tensors, bias, (width,))]


def folded(tensors: Mapping[str, Any], offset: int) -> dict[str, Any]:
    """Adds the row of token type 0 to RoBERTa's positions, from the first token's on.

    All tokens are of that type, so that the sum of the embeddings stays the same.

    Args:
        tensors: What `canonical` returned.
        offset: int. Rows of the table before the first token's.

    Returns:
        Dictionary without the token types.

    Example:

    ```python
    folded(tensors, 2)["embeddings.position_embeddings.weight"].shape  # (512, 768)
    ```
    """
    rest = dict(tensors)
    types = rest.pop(TOKEN_TYPES, None)
    if POSITIONS in rest:
        rows = np.asarray(rest[POSITIONS])[offset:].astype(np.float32)
        if types is not None:
            rows = rows + np.asarray(types)[0].astype(np.float32)
        elif "embeddings.word_embeddings.weight" in rest:
            raise UserError(f"the checkpoint has no tensor {TOKEN_TYPES}")
        rest[POSITIONS] = rows
    return rest


def unfolded(tensors: Tensors, offset: int) -> Tensors:
    """The inverse of `folded`: rows for padding before the positions, a zero type.

    Example:

    ```python
    unfolded(tensors, 2)["embeddings.position_embeddings.weight"].shape  # (514, 768)
    ```
    """
    positions = tensors[POSITIONS]
    before = np.zeros((offset, positions.shape[1]), np.float32)
    return {
        **tensors,
        POSITIONS: np.concatenate([before, positions]),
        TOKEN_TYPES: np.zeros((1, positions.shape[1]), np.float32),
    }


def tensors_of(backbone: keras_hub.models.Backbone, offset: int = 2) -> Tensors:
    """A backbone's weights as the tensors of the family's plain encoder.

    Args:
        backbone: A backbone of one of `ARCHITECTURES`.
        offset: int. Rows that RoBERTa's table of positions begins with: the padding
            token's id and one. Defaults to `2`.

    Returns:
        Dictionary of float32 arrays by Hugging Face's names, without the family's
        prefix and without a pooler.

    Raises:
        UserError: See `architecture_of`.

    Example:

    ```python
    safetensors.numpy.save_file(tensors_of(model.backbone), "model.safetensors")
    ```
    """
    tensors = {each.name: each.tensor() for each in parameters(backbone)}
    if architecture_of(backbone).pads_positions:
        return unfolded(tensors, offset)
    return tensors


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
