"""The backbone families: which tokenizer and which encoder go with a backbone."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras_hub

from simcse_tf.core.errors import UserError
from simcse_tf.encoders.base import Encoder
from simcse_tf.encoders.bert import BertEncoder
from simcse_tf.encoders.keras_layers import KerasLayersEncoder
from simcse_tf.encoders.roberta import DistilBertEncoder, RobertaEncoder
from simcse_tf.tokenizers.base import Tokenizer
from simcse_tf.tokenizers.bert import BertTokenizer
from simcse_tf.tokenizers.byte_level_bpe import RobertaTokenizer
from simcse_tf.tokenizers.shared import shared
from simcse_tf.tokenizers.unigram import XLMRobertaTokenizer


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
    Family(
        keras_hub.models.RobertaBackbone,
        keras_hub.tokenizers.RobertaTokenizer,
        RobertaTokenizer,
        RobertaEncoder,
    ),
    Family(
        keras_hub.models.XLMRobertaBackbone,
        keras_hub.tokenizers.XLMRobertaTokenizer,
        XLMRobertaTokenizer,
        RobertaEncoder,
    ),
    Family(
        keras_hub.models.DistilBertBackbone,
        keras_hub.tokenizers.DistilBertTokenizer,
        BertTokenizer,
        DistilBertEncoder,
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
    family = _family_of(backbone)
    encoder = KerasLayersEncoder if family is None else family.encoder
    return encoder(backbone, layers, first_token, static_shapes)


def tokenizer_of(keras_tokenizer: Any, source: str, **settings: Any) -> Tokenizer:
    """Makes our tokenizer from the one that KerasHub loaded.

    Args:
        keras_tokenizer: A `keras_hub.tokenizers.Tokenizer`.
        source: string. What it was loaded from, for the message.
        **settings: What `Tokenizer.settings` gave, if anything.

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
        return family.tokenizer.from_keras_hub(keras_tokenizer, **settings)
    raise UserError(
        f"{source} uses a {type(keras_tokenizer).__name__}; expected a model with "
        "BERT's WordPiece, RoBERTa's byte-level BPE or XLM-RoBERTa's SentencePiece"
    )


def save_tokenizer(
    tokenizer: Tokenizer, backbone: keras_hub.models.Backbone, directory: str
) -> None:
    """Writes a tokenizer in KerasHub's preset format.

    Args:
        tokenizer: The tokenizer.
        backbone: The backbone, which decides the class where families share a
            tokenizer.
        directory: string. The preset's directory.

    Example:

    ```python
    save_tokenizer(model.tokenizer, model.backbone, "models/mine")
    ```
    """
    keras_tokenizer = tokenizer.to_keras_hub()
    family = _family_of(backbone)
    if family is not None and type(tokenizer) is family.tokenizer:
        expected = family.keras_tokenizer
        if not isinstance(keras_tokenizer, expected):
            vocabulary = keras_tokenizer.get_vocabulary()
            keras_tokenizer = expected.from_config(keras_tokenizer.get_config())
            keras_tokenizer.set_vocabulary(vocabulary)
    keras_tokenizer.save_to_preset(directory)


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
            return shared(family.tokenizer(**arguments))
    raise ValueError(f"No backbone family has a tokenizer {name!r}")


def _family_of(backbone: keras_hub.models.Backbone) -> Family | None:
    # A subclass may compute something else.
    return next((each for each in FAMILIES if type(backbone) is each.backbone), None)
