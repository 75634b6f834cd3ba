"""Hugging Face's families of encoders beside KerasHub's: keys and tensor names.

One table a family, read in both directions: checkpoints come in by it and go out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras_hub
import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.encoders.keras_layers import parts_of, transformer_layers

WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
TOKEN_TYPES = "embeddings.token_type_embeddings.weight"
POOLER = ("pooler.dense.weight", "pooler.dense.bias")


class LayerNames(NamedTuple):
    """What a family calls the parts of a transformer layer."""

    prefix: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    intermediate: str
    output: str
    output_norm: str


class MaskedLMNames(NamedTuple):
    """What a family calls the parts of its masked-language-model head."""

    dense: str
    norm: str
    bias: tuple[str, ...]
    decoder: str


BERT_LAYER = LayerNames(
    prefix="encoder.layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    intermediate="intermediate.dense",
    output="output.dense",
    output_norm="output.LayerNorm",
)
DISTILBERT_LAYER = LayerNames(
    prefix="transformer.layer",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_output="attention.out_lin",
    attention_norm="sa_layer_norm",
    intermediate="ffn.lin1",
    output="ffn.lin2",
    output_norm="output_layer_norm",
)
BERT_MASKED_LM = MaskedLMNames(
    dense="cls.predictions.transform.dense",
    norm="cls.predictions.transform.LayerNorm",
    bias=("cls.predictions.bias", "cls.predictions.decoder.bias"),
    decoder="cls.predictions.decoder.weight",
)
ROBERTA_MASKED_LM = MaskedLMNames(
    dense="lm_head.dense",
    norm="lm_head.layer_norm",
    bias=("lm_head.bias", "lm_head.decoder.bias"),
    decoder="lm_head.decoder.weight",
)
DISTILBERT_MASKED_LM = MaskedLMNames(
    dense="vocab_transform",
    norm="vocab_layer_norm",
    bias=("vocab_projector.bias",),
    decoder="vocab_projector.weight",
)

# The backbone's arguments in KerasHub, and the keys of config.json.
BERT_KEYS = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "dropout": "hidden_dropout_prob",
    "max_sequence_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
}
ROBERTA_KEYS = {k: v for k, v in BERT_KEYS.items() if k != "num_segments"}
DISTILBERT_KEYS = {
    "vocabulary_size": "vocab_size",
    "num_layers": "n_layers",
    "num_heads": "n_heads",
    "hidden_dim": "dim",
    "intermediate_dim": "hidden_dim",
    "dropout": "dropout",
    "max_sequence_length": "max_position_embeddings",
}
# What transformers takes where config.json leaves a key out.
BERT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
ROBERTA_DEFAULTS = BERT_DEFAULTS | {"pad_token_id": 1}
DISTILBERT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "n_layers": 6,
    "n_heads": 12,
    "dim": 768,
    "hidden_dim": 3072,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "max_position_embeddings": 512,
    "activation": "gelu",
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Architecture:
    """A family of encoders.

    Attributes:
        model_type: string. Its name in `config.json`.
        model_class: string. Its class in transformers.
        backbone: Its class in KerasHub.
        prefix: string. What tensor names begin with where a head stands beside.
        keys: Arguments of the backbone, and the keys of `config.json`.
        defaults: What `config.json` means where it leaves a key out.
        layer: The tensor names of a layer.
        masked_lm: The tensor names of the masked-language-model head.
        activation_key: string. The key that names the feed-forward's activation.
        epsilon: Optional float. Of layer normalizations, where no key has it.
        aliases: Other names of keys.
        pads_positions: bool. Whether the table of positions begins with rows for
            padding: as many as the id of the padding token, and one.
    """

    model_type: str
    model_class: str
    backbone: type[keras_hub.models.Backbone]
    prefix: str
    keys: Mapping[str, str] = field(default_factory=lambda: BERT_KEYS)
    defaults: Mapping[str, Any] = field(default_factory=lambda: BERT_DEFAULTS)
    layer: LayerNames = BERT_LAYER
    masked_lm: MaskedLMNames = BERT_MASKED_LM
    activation_key: str = "hidden_act"
    epsilon: float | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    pads_positions: bool = False


_ROBERTA: dict[str, Any] = {
    "prefix": "roberta",
    "keys": ROBERTA_KEYS,
    "defaults": ROBERTA_DEFAULTS,
    "masked_lm": ROBERTA_MASKED_LM,
    "pads_positions": True,
}
# To add a family, add a line. Its backbone and tokenizer stand in `FAMILIES`.
ARCHITECTURES = (
    Architecture("bert", "BertModel", keras_hub.models.BertBackbone, "bert"),
    Architecture(
        "roberta", "RobertaModel", keras_hub.models.RobertaBackbone, **_ROBERTA
    ),
    Architecture(
        "xlm-roberta",
        "XLMRobertaModel",
        keras_hub.models.XLMRobertaBackbone,
        **_ROBERTA,
    ),
    Architecture(
        "distilbert",
        "DistilBertModel",
        keras_hub.models.DistilBertBackbone,
        "distilbert",
        keys=DISTILBERT_KEYS,
        defaults=DISTILBERT_DEFAULTS,
        layer=DISTILBERT_LAYER,
        masked_lm=DISTILBERT_MASKED_LM,
        activation_key="activation",
        epsilon=1e-12,
        aliases={
            "hidden_size": "dim",
            "num_attention_heads": "n_heads",
            "num_hidden_layers": "n_layers",
        },
    ),
)


def architecture_of(backbone: keras_hub.models.Backbone) -> Architecture:
    """The family of a backbone.

    Raises:
        UserError: If Hugging Face has none that we know for it.

    Example:

    ```python
    architecture_of(model.backbone).model_type  # "bert"
    ```
    """
    for architecture in ARCHITECTURES:
        # A subclass may compute something else.
        if type(backbone) is architecture.backbone:
            return architecture
    raise UserError(
        f"{type(backbone).__name__} has no counterpart at Hugging Face here: expected "
        f"one of {', '.join(each.backbone.__name__ for each in ARCHITECTURES)}"
    )


class Parameter(NamedTuple):
    """A variable of a backbone, and the tensor that holds it at Hugging Face.

    Attributes:
        name: string. The tensor's name, without the family's prefix.
        variable: The Keras variable.
        shape: ints. The tensor's shape.
        is_kernel: bool. Whether it is a dense layer's kernel, which PyTorch holds
            transposed.
    """

    name: str
    variable: Any
    shape: tuple[int, ...]
    is_kernel: bool = False

    def value_of(self, tensor: np.ndarray) -> np.ndarray:
        """What the variable is to be, given the tensor."""
        array = tensor.T if self.is_kernel else tensor
        return array.reshape(self.variable.shape)

    def tensor(self) -> np.ndarray:
        """The tensor as Hugging Face has it, float32."""
        array = np.asarray(self.variable, np.float32)
        if self.is_kernel:
            return np.ascontiguousarray(array.reshape(self.shape[::-1]).T)
        return array.reshape(self.shape)


def parameters(backbone: keras_hub.models.Backbone) -> list[Parameter]:
    """All variables of a backbone but BERT's pooler, each with its tensor.

    RoBERTa's positions are the rows from the first token on, with the row of the only
    token type added to each; see `folded` and `unfolded`.

    Args:
        backbone: A backbone of one of `ARCHITECTURES`.

    Raises:
        UserError: See `architecture_of`.

    Example:

    ```python
    parameters(model.backbone)[0].name  # "embeddings.word_embeddings.weight"
    ```
    """
    architecture = architecture_of(backbone)
    return [*_embeddings(backbone), *_layers(backbone, architecture.layer)]


def _embeddings(backbone: keras_hub.models.Backbone) -> Iterator[Parameter]:
    width = backbone.hidden_dim
    words = backbone.token_embedding.embeddings
    yield Parameter(WORDS, words, (backbone.vocabulary_size, width))
    has_segments = isinstance(backbone, keras_hub.models.BertBackbone)
    holder = backbone if has_segments else backbone.embeddings
    positions = holder.position_embedding.position_embeddings
    yield Parameter(POSITIONS, positions, (backbone.max_sequence_length, width))
    if has_segments:
        table = backbone.segment_embedding.embeddings
        yield Parameter(TOKEN_TYPES, table, (backbone.num_segments, width))
    yield from _norm("embeddings.LayerNorm", backbone.embeddings_layer_norm, width)


def _layers(
    backbone: keras_hub.models.Backbone, names: LayerNames
) -> Iterator[Parameter]:
    width, inner = backbone.hidden_dim, backbone.intermediate_dim
    for index, layer in enumerate(transformer_layers(backbone)):
        prefix = f"{names.prefix}.{index}."
        parts = parts_of(layer)
        attention = parts.attention
        for name, dense, inputs, outputs in (
            (names.query, attention.query_dense, width, width),
            (names.key, attention.key_dense, width, width),
            (names.value, attention.value_dense, width, width),
            (names.attention_output, attention.output_dense, width, width),
            (names.intermediate, parts.intermediate, width, inner),
            (names.output, parts.output, inner, width),
        ):
            shape = (outputs, inputs)
            yield Parameter(f"{prefix}{name}.weight", dense.kernel, shape, True)
            yield Parameter(f"{prefix}{name}.bias", dense.bias, (outputs,))
        yield from _norm(prefix + names.attention_norm, parts.attention_norm, width)
        yield from _norm(prefix + names.output_norm, parts.output_norm, width)


def _norm(name: str, layer: Any, width: int) -> Iterator[Parameter]:
    yield Parameter(f"{name}.weight", layer.gamma, (width,))
    yield Parameter(f"{name}.bias", layer.beta, (width,))
