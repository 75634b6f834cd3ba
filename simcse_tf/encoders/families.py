"""The backbone families: which tokenizer and which encoder go with a backbone."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras_hub

from simcse_tf.core.errors import UserError
from simcse_tf.encoders.base import Encoder
from simcse_tf.encoders.bert import BertEncoder
from simcse_tf.encoders.keras_layers import KerasLayersEncoder
from simcse_tf.tokenizers.base import Tokenizer
from simcse_tf.tokenizers.bert import BertTokenizer


class Family(NamedTuple):
    """The parts that a family of backbones needs.

    Attributes:
        backbone: The class of its backbones in KerasHub.
        keras_tokenizer: The class of its tokenizers in KerasHub: the file format.
        tokenizer: Our tokenizer, whose ids are those of the reference.
        encoder: Our encoder. `KerasLayersEncoder` serves any backbone.
    """

    backbone: type[keras_hub.models.Backbone]
    keras_tokenizer: type[keras_hub.tokenizers.Tokenizer]
    tokenizer: type[Tokenizer]
    encoder: type[Encoder] = KerasLayersEncoder


# To add a family, add a file in `tokenizers/`, one in `encoders/`, and a line here.
FAMILIES = [
    Family(
        keras_hub.models.BertBackbone,
        keras_hub.tokenizers.WordPieceTokenizer,
        BertTokenizer,
        BertEncoder,
    ),
]


def encoder_of(
    backbone: keras_hub.models.Backbone,
    layers: Sequence[int] = (-1,),
    first_token: bool = False,
    static_shapes: bool = False,
) -> Encoder:
    """Chooses the encoder that computes a backbone's hidden states.

    Args:
        backbone: A `keras_hub.models.Backbone`.
        layers: ints. See `Encoder`. Defaults to the last layer.
        first_token: bool. See `Encoder`. Defaults to `False`.
        static_shapes: bool. Whether shapes must not depend on the data, as XLA and
            TPUs ask. Defaults to `False`.

    Returns:
        The family's encoder, or `KerasLayersEncoder` for a backbone without a family.

    Raises:
        ValueError: If the backbone has no such layers.

    Example:

    ```python
    encoder = encoder_of(keras_hub.models.Backbone.from_preset("bert_tiny_en_uncased"))
    ```
    """
    encoder: type[Encoder] = KerasLayersEncoder
    for family in FAMILIES:
        # A subclass may compute something else.
        if type(backbone) is family.backbone:
            encoder = family.encoder
    return encoder(backbone, layers, first_token, static_shapes)


def tokenizer_of(keras_tokenizer: Any, source: str) -> Tokenizer:
    """Makes our tokenizer from the one that KerasHub loaded.

    Args:
        keras_tokenizer: A `keras_hub.tokenizers.Tokenizer`.
        source: string. What it was loaded from, for the message.

    Raises:
        UserError: If no family has such a tokenizer.

    Example:

    ```python
    tokenizer_of(keras_hub.models.BertTokenizer(["[PAD]", ...]), "my preset")
    ```
    """
    own = [f for f in FAMILIES if type(keras_tokenizer) is f.keras_tokenizer]
    others = [f for f in FAMILIES if isinstance(keras_tokenizer, f.keras_tokenizer)]
    for family in own + others:
        return family.tokenizer.from_keras_hub(keras_tokenizer)
    raise UserError(
        f"{source} uses a {type(keras_tokenizer).__name__}; expected a model with "
        "BERT's WordPiece tokenizer"
    )


def tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """A tokenizer in JSON's types, for `tokenizer_from_config`.

    Example:

    ```python
    tokenizer_config(model.tokenizer)["class_name"]  # "BertTokenizer"
    ```
    """
    return {
        "class_name": type(tokenizer).__name__,
        "vocabulary": tokenizer.vocabulary,
        **tokenizer.get_config(),
    }


def tokenizer_from_config(config: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `tokenizer_config` described.

    Raises:
        ValueError: If no family has such a tokenizer.

    Example:

    ```python
    tokenizer_from_config(tokenizer_config(model.tokenizer))
    ```
    """
    name, arguments = config["class_name"], {**config}
    del arguments["class_name"]
    for family in FAMILIES:
        if family.tokenizer.__name__ == name:
            return family.tokenizer(**arguments)
    raise ValueError(f"No backbone family has a tokenizer {name!r}")
