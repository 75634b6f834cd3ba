"""A model as sentence-transformers' modules: what follows the transformer.

The files are in the form that all releases read, and TEI as well: booleans for the
pooling, `max_seq_length` in a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from safetensors import numpy as safetensors

import simcse_tf
from simcse_tf.checkpoints.dense_module import ACTIVATIONS
from simcse_tf.checkpoints.sentence_transformers import POOLING_MODES, POOLING_SWITCHES
from simcse_tf.core.errors import UserError
from simcse_tf.encoders.heads import DenseLayer
from simcse_tf.encoders.pooling import JOINT, WITH_HEAD

if TYPE_CHECKING:
    from simcse_tf.model.sentence_encoder import SentenceEncoder

# sentence-transformers makes an activation without arguments, and trusts no others.
_CLASSES = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
# The name of the prompt that stands before every text, where it has none.
_DEFAULT_PROMPT = "default"


@dataclass(frozen=True)
class Module:
    """One module of a sentence-transformers directory.

    Attributes:
        kind: string. Its class in `sentence_transformers.models`.
        config: The content of its `config.json`.
        tensors: Its weights by name.

    Example:

    ```python
    Module("Normalize")
    ```
    """

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, np.ndarray] = field(default_factory=dict)


def modules(model: SentenceEncoder) -> list[Module]:
    """The modules of a model, the first of which is the transformer.

    Args:
        model: A `simcse_tf.SimCSE`.

    Raises:
        UserError: If sentence-transformers has no such pooling or activation.

    Example:

    ```python
    [each.kind for each in modules(model)]
    # ["Transformer", "Pooling", "Dense", "Normalize"]
    ```
    """
    return [
        Module("Transformer"),
        Module("Pooling", _pooling(model)),
        *_dense(model),
        Module("Normalize"),
    ]


def write_modules(model: SentenceEncoder, directory: Path) -> None:
    """Writes the files that sentence-transformers adds to a transformers directory.

    Args:
        model: A `simcse_tf.SimCSE`.
        directory: The directory.

    Raises:
        UserError: See `modules`.
        OSError: If a file cannot be written.

    Example:

    ```python
    write_modules(model, Path("models/mine"))
    ```
    """
    listed = []
    for index, module in enumerate(modules(model)):
        # The transformer's own files are those of the directory.
        name = f"{index}_{module.kind}" if index else ""
        kind = f"sentence_transformers.models.{module.kind}"
        listed.append({"idx": index, "name": str(index), "path": name, "type": kind})
        if index:
            (directory / name).mkdir()
            _write_json(directory / name / "config.json", module.config)
        if module.tensors:
            content = safetensors.save(dict(module.tensors), {"format": "pt"})
            (directory / name / "model.safetensors").write_bytes(content)
    _write_json(directory / "modules.json", listed)
    length = {"max_seq_length": model.max_length, "do_lower_case": False}
    _write_json(directory / "sentence_bert_config.json", length)
    prompts, default = named_prompts(model)
    config = {
        "__version__": {"simcse_tf": simcse_tf.__version__},
        "model_type": "SentenceTransformer",
        "prompts": prompts,
        "default_prompt_name": default,
        "similarity_fn_name": "cosine",
    }
    _write_json(directory / "config_sentence_transformers.json", config)


def named_prompts(model: SentenceEncoder) -> tuple[dict[str, str], str | None]:
    """A model's prompts, and the name of the one that stands before every text.

    `encode_query` and `encode_document` do not fall back to that one, so both have it
    where the model has no other for them.

    Args:
        model: A `simcse_tf.SimCSE`.

    Returns:
        The prompts by name, and a name or `None`.

    Example:

    ```python
    named_prompts(model)  # ({"query": "", "document": ""}, None)
    ```
    """
    prompts = dict.fromkeys(("query", "document"), model.prompt) | dict(model.prompts)
    if not model.prompt:
        return prompts, None
    for name, prompt in model.prompts.items():
        if prompt == model.prompt:
            return prompts, name
    name = _DEFAULT_PROMPT
    while name in prompts:
        name += "_"
    return {**prompts, name: model.prompt}, name


def head_layers(model: SentenceEncoder) -> list[tuple[DenseLayer, list[np.ndarray]]]:
    """The dense layers that embeddings pass through, with their weights.

    Args:
        model: A `simcse_tf.SimCSE`.

    Returns:
        list of each layer's description, and its kernel and bias. It is empty where
        the model has no head, or does not use it in inference.

    Example:

    ```python
    head_layers(model)[0][0]  # DenseLayer(768, "tanh", True)
    ```
    """
    if model.head is None or not model.head_in_inference:
        return []
    if isinstance(model.head, keras.layers.Dense):
        return [(DenseLayer(model.head.units), model.head.get_weights())]
    described = [DenseLayer(**each) for each in model.dense]
    weights = [layer.get_weights() for layer in model.head.layers]
    return list(zip(described, weights, strict=True))


def _pooling(model: SentenceEncoder) -> dict[str, Any]:
    # The first token is pooled alike with a head and without one.
    wanted = [
        "cls_before_pooler" if name == WITH_HEAD else name
        for name in model.pooling.split(JOINT)
    ]
    # In its order; a pooler that has no mode, or occurs twice, leaves a difference.
    known = [name for name in POOLING_MODES.values() if name in wanted]
    if sorted(known) != sorted(wanted):
        raise UserError(
            f"sentence-transformers has no pooling {model.pooling}: expected some of "
            f"{WITH_HEAD}, {', '.join(POOLING_MODES.values())}"
        )
    if known != wanted:
        raise UserError(
            f"sentence-transformers concatenates poolings as {JOINT.join(known)}; the "
            f"model's are {model.pooling}"
        )
    switches = {
        switch: POOLING_MODES[mode] in wanted
        for switch, mode in POOLING_SWITCHES.items()
    }
    width = model.backbone.hidden_dim
    return {"word_embedding_dimension": width, **switches, "include_prompt": True}


def _dense(model: SentenceEncoder) -> list[Module]:
    found = []
    for layer, (kernel, *bias) in head_layers(model):
        if layer.activation not in _CLASSES:
            raise UserError(
                f"sentence-transformers has no dense layer with {layer.activation}: "
                f"expected one of {', '.join(_CLASSES)}"
            )
        config = {
            "in_features": kernel.shape[0],
            "out_features": kernel.shape[1],
            "bias": layer.use_bias,
            "activation_function": _class_path(layer.activation),
        }
        tensors = {"linear.weight": np.ascontiguousarray(kernel.T)}
        if bias:
            tensors["linear.bias"] = bias[0]
        found.append(Module("Dense", config, tensors))
    return found


def _class_path(activation: str) -> str:
    module = "linear" if activation == "identity" else "activation"
    return f"torch.nn.modules.{module}.{_CLASSES[activation]}"


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
