"""Hugging Face's `config.json` as a backbone's arguments and settings, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras_hub

from simcse_tf.checkpoints.architectures import (
    ARCHITECTURES,
    Architecture,
    architecture_of,
)
from simcse_tf.core.errors import UserError
from simcse_tf.encoders.activations import ACTIVATIONS
from simcse_tf.encoders.keras_layers import parts_of, transformer_layers

# transformers' names of activations, and ours. The first of several goes out.
HIDDEN_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_approximate",
    "gelu_pytorch_tanh": "gelu_approximate",
    "gelu_python_tanh": "gelu_approximate",
    "gelu_fast": "gelu_approximate",
    "gelu_accurate": "gelu_approximate",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu_squared",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
    "silu": "silu",
    "swish": "silu",
    "mish": "mish",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "linear": "identity",
}

# Keys that make a model compute something else, and the values with which they do not.
# The families' own code reads no other keys: those of training, generation and
# classification stand in many files and change nothing.
_ONLY_WITH: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "is_causal": (False, None),
    "add_cross_attention": (False, None),
    "pruned_heads": ({}, None),
    "quantization_config": ({}, None),
    "compression_config": ({}, None),
    "per_layer_config": ({}, None),
    "layer_types": ([], None),
    "sliding_window": (None,),
    "rope_theta": (None,),
    "rope_scaling": (None,),
    "rope_parameters": (None,),
    "rotary_value": (False, None),
    "normalize_before": (False, None),
    # A class of the checkpoint's own, which we cannot know.
    "auto_map": ({}, None),
}


@dataclass(frozen=True)
class ModelConfig:
    """What a `config.json` says.

    Attributes:
        architecture: The family.
        arguments: Dictionary. The backbone's arguments in KerasHub.
        activation: string. Of the feed-forward layers; a key of `ACTIVATIONS`.
        layer_norm_epsilon: float.
        position_offset: int. Rows of the table of positions before the first token's.
        pad_token_id: int.
    """

    architecture: Architecture
    arguments: dict[str, Any]
    activation: str
    layer_norm_epsilon: float
    position_offset: int
    pad_token_id: int | None


def read_model_config(config: Mapping[str, Any], source: str) -> ModelConfig:
    """Reads a `config.json`: what changes the computation is honoured or refused.

    Args:
        config: What the file holds.
        source: string. The file, for the messages.

    Raises:
        UserError: If the family is not known, or a key asks for what it does not
            compute here.

    Example:

    ```python
    read_model_config(read_json("config.json"), "config.json").activation  # "gelu"
    ```
    """
    architecture = _architecture(config, source)
    config = _with_aliases(config, architecture, source)
    _refuse_other_computations(config, source)
    values = {**architecture.defaults, **config}
    arguments = {ours: values[theirs] for ours, theirs in architecture.keys.items()}
    for ours, theirs in architecture.keys.items():
        _check_number(arguments[ours], theirs, source, whole=ours != "dropout")
    pad = values["pad_token_id"]
    offset = 0
    if architecture.pads_positions:
        _check_number(pad, "pad_token_id", source)
        offset = pad + 1
        arguments["max_sequence_length"] -= offset
    _check_sizes(arguments, config, source)
    return ModelConfig(
        architecture,
        arguments,
        _activation(values[architecture.activation_key], architecture, source),
        _epsilon(architecture, values, source),
        offset,
        pad,
    )


def config_of(backbone: keras_hub.models.Backbone, pad_token_id: int) -> dict[str, Any]:
    """The `config.json` of a backbone as it computes now.

    Args:
        backbone: A backbone of one of `ARCHITECTURES`. Activation and epsilon are
            those of its layers.
        pad_token_id: int. The tokenizer's.

    Returns:
        Dictionary in JSON's types.

    Raises:
        UserError: If Hugging Face has no name for what it computes.

    Example:

    ```python
    config_of(model.backbone, model.tokenizer.pad_token_id)["hidden_size"]  # 768
    ```
    """
    architecture = architecture_of(backbone)
    config = {**architecture.defaults}
    for ours, theirs in architecture.keys.items():
        config[theirs] = getattr(backbone, ours)
    if architecture.pads_positions:
        config["max_position_embeddings"] += pad_token_id + 1
        config["type_vocab_size"] = 1
    parts = parts_of(transformer_layers(backbone)[0])
    config[architecture.activation_key] = _name_of(parts.intermediate.activation)
    epsilon = parts.output_norm.epsilon
    if architecture.epsilon is None:
        config["layer_norm_eps"] = epsilon
    elif epsilon != architecture.epsilon:
        raise UserError(
            f"{architecture.model_class} always has an epsilon of "
            f"{architecture.epsilon}; this backbone has {epsilon}"
        )
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if name in config:
            config[name] = backbone.dropout
    return {
        "architectures": [architecture.model_class],
        "model_type": architecture.model_type,
        **config,
        "pad_token_id": pad_token_id,
        "torch_dtype": "float32",
    }


def _architecture(config: Mapping[str, Any], source: str) -> Architecture:
    model_type = config.get("model_type")
    known = [each.model_type for each in ARCHITECTURES]
    if model_type is None:
        raise UserError(
            f"{source} has no model_type: expected one of {', '.join(known)}"
        )
    for architecture in ARCHITECTURES:
        if architecture.model_type == model_type:
            return architecture
    raise UserError(
        f"{source} is of a {model_type!r} model, which simcse_tf does not compute: "
        f"expected one of {', '.join(known)}"
    )


def _with_aliases(
    config: Mapping[str, Any], architecture: Architecture, source: str
) -> dict[str, Any]:
    renamed = dict(config)
    for alias, name in architecture.aliases.items():
        if alias in renamed:
            value = renamed.pop(alias)
            if renamed.setdefault(name, value) != value:
                raise UserError(f"{source}: {alias} and {name} contradict each other")
    return renamed


def _refuse_other_computations(config: Mapping[str, Any], source: str) -> None:
    for key, harmless in _ONLY_WITH.items():
        if key in config and config[key] not in harmless:
            raise UserError(
                f"{source}: {key} is {config[key]!r}, which simcse_tf does not "
                f"compute: expected {harmless[0]!r}"
            )
    adapters = config.get("adapters")
    if adapters and (not isinstance(adapters, dict) or adapters.get("adapters")):
        raise UserError(f"{source}: adapters are not computed here: merge them first")


def _check_number(value: Any, key: str, source: str, whole: bool = True) -> None:
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or value < 0:
        expected = "a whole number" if whole else "a number"
        raise UserError(f"{source}: {key} must be {expected}, received {value!r}")


def _check_sizes(
    arguments: Mapping[str, Any], config: Mapping[str, Any], source: str
) -> None:
    for name, value in arguments.items():
        if name != "dropout" and value < 1:
            raise UserError(f"{source}: {name} would be {value}: expected 1 or more")
    width, heads = arguments["hidden_dim"], arguments["num_heads"]
    if width % heads:
        raise UserError(
            f"{source}: a width of {width} cannot be divided among {heads} heads"
        )
    if (size := config.get("embedding_size", width)) != width:
        raise UserError(
            f"{source}: embedding_size is {size!r}, which simcse_tf does not compute: "
            f"expected the model's width, {width}"
        )


def _activation(value: Any, architecture: Architecture, source: str) -> str:
    if value not in HIDDEN_ACTIVATIONS:
        raise UserError(
            f"{source}: {architecture.activation_key} is {value!r}, which simcse_tf "
            f"does not compute: expected one of {', '.join(HIDDEN_ACTIVATIONS)}"
        )
    return HIDDEN_ACTIVATIONS[value]


def _epsilon(
    architecture: Architecture, values: Mapping[str, Any], source: str
) -> float:
    if architecture.epsilon is not None:
        return architecture.epsilon
    _check_number(values["layer_norm_eps"], "layer_norm_eps", source, whole=False)
    return float(values["layer_norm_eps"])


def _name_of(activation: Any) -> str:
    """transformers' name of an activation."""
    for name, ours in HIDDEN_ACTIVATIONS.items():
        if activation is ACTIVATIONS[ours]:
            return name
    # The function that KerasHub's BERT comes with; it has a name of its own there.
    if getattr(activation, "__name__", "") == "gelu_approximate":
        return "gelu_new"
    raise UserError(
        f"Hugging Face has no name for the activation {activation!r}: expected one of "
        f"{', '.join(HIDDEN_ACTIVATIONS.values())}"
    )
