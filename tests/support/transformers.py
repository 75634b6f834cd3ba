"""Small models that transformers made: `tools/make_transformer_references.py`."""

from pathlib import Path
from typing import NamedTuple

import keras_hub
import numpy as np
from safetensors.numpy import load_file

from simcse_tf.encoders.keras_layers import parts_of, transformer_layers

FILE = Path(__file__).parent / "transformers.safetensors"
# The layers in the order of `_set_layers`.
BERT_LAYERS = (
    "encoder.layer.{}.",
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
DISTILBERT_LAYERS = (
    "transformer.layer.{}.",
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "sa_layer_norm",
    "ffn.lin1",
    "ffn.lin2",
    "output_layer_norm",
)


class Architecture(NamedTuple):
    """What differs between the models in the file."""

    backbone: type
    layers: tuple[str, ...] = BERT_LAYERS
    activation: str = "gelu"
    pad: int = 0


ARCHITECTURES = {
    "bert": Architecture(keras_hub.models.BertBackbone),
    "roberta": Architecture(keras_hub.models.RobertaBackbone, pad=1),
    "xlm_roberta": Architecture(
        keras_hub.models.XLMRobertaBackbone, activation="gelu_approximate", pad=1
    ),
    "distilbert": Architecture(
        keras_hub.models.DistilBertBackbone, DISTILBERT_LAYERS, "relu"
    ),
}


class Reference:
    """One model of the file, and what transformers made of it.

    Attributes:
        token_ids: int32 `(steps, columns, n, length)`.
        masks: int32, the same shape.
        hidden_states: float32 `(layers, n, length, dim)`, of the first column.
        losses: float32 `(steps,)`.
        masked_lm: The tensors of the masked language model's head.
        logits: float32 `(2, length, tokens)`, of the first two sentences.
    """

    def __init__(self, name: str):
        arrays = {
            key.removeprefix(f"{name}/"): array
            for key, array in load_file(FILE).items()
            if key.startswith(f"{name}/")
        }
        self.architecture = ARCHITECTURES[name]
        self.token_ids = arrays["token_ids"].astype("int32")
        self.masks = (self.token_ids != self.architecture.pad).astype("int32")
        self.hidden_states = arrays["hidden_states"]
        self.losses = arrays["losses"]
        self.head = [arrays["head.weight"].T, arrays["head.bias"]]
        self.masked_lm = {
            key.removeprefix("masked_lm."): array
            for key, array in arrays.items()
            if key.startswith("masked_lm.")
        }
        self.logits = arrays["logits"]
        self._weights = arrays

    def backbone(self):
        """KerasHub's backbone with the model's weights, without dropout."""
        tokens, width = self._weights["model.embeddings.word_embeddings.weight"].shape
        backbone = self.architecture.backbone(
            vocabulary_size=tokens,
            num_layers=len(self.hidden_states),
            num_heads=2,
            hidden_dim=width,
            intermediate_dim=2 * width,
            dropout=0.0,
            max_sequence_length=self.token_ids.shape[-1],
        )
        self._set_embeddings(backbone)
        for index, layer in enumerate(transformer_layers(backbone)):
            self._set_layer(index, parts_of(layer))
        return backbone

    def features(self, backbone, step=0, column=0):
        """A column of a batch as the backbone takes it."""
        token_ids, mask = self.token_ids[step, column], self.masks[step, column]
        features = {
            "token_ids": token_ids,
            "padding_mask": mask,
            "segment_ids": np.zeros_like(token_ids),
        }
        return {name: features[name] for name in backbone.input}

    def _set_embeddings(self, backbone):
        words = self._weights["model.embeddings.word_embeddings.weight"]
        positions = self._weights["model.embeddings.position_embeddings.weight"]
        types = self._weights.get("model.embeddings.token_type_embeddings.weight")
        if hasattr(backbone, "segment_embedding"):
            backbone.segment_embedding.set_weights([types])
            position_embedding = backbone.position_embedding
        else:
            position_embedding = backbone.embeddings.position_embedding
            if types is not None:
                positions = positions[self.architecture.pad + 1 :] + types
        backbone.token_embedding.set_weights([words])
        position_embedding.set_weights([positions])
        norm = [self._weights[f"model.embeddings.LayerNorm.{part}"] for part in PARTS]
        backbone.embeddings_layer_norm.set_weights(norm)

    def _set_layer(self, index, parts):
        prefix, *names = self.architecture.layers
        layers = (
            parts.attention.query_dense,
            parts.attention.key_dense,
            parts.attention.value_dense,
            parts.attention.output_dense,
            parts.attention_norm,
            parts.intermediate,
            parts.output,
            parts.output_norm,
        )
        for layer, name in zip(layers, names, strict=True):
            name = f"model.{prefix.format(index)}{name}"
            weight, bias = (self._weights[f"{name}.{part}"] for part in PARTS)
            shapes = [variable.shape for variable in layer.weights]
            layer.set_weights([weight.T.reshape(shapes[0]), bias.reshape(shapes[1])])


PARTS = ("weight", "bias")
