"""Small models of every backbone family, with tokenizers that read any text."""

from pathlib import Path

from support.models import word_piece


def make_family_preset(name: str, path: Path) -> Path:
    """A KerasHub directory: one layer with random weights."""
    import keras

    from simcse_tf.encoders.families import save_tokenizer

    keras.utils.set_random_seed(7)
    backbone_class, make_tokenizer = _PARTS[name]()
    tokenizer = make_tokenizer()
    backbone = backbone_class(
        vocabulary_size=tokenizer.vocabulary_size,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        dropout=0.1,
        max_sequence_length=64,
    )
    backbone.save_to_preset(str(path))
    save_tokenizer(tokenizer, backbone, str(path))
    return path


def byte_level_bpe():
    """A RoBERTa tokenizer: all bytes, and a few merges."""
    from simcse_tf.tokenizers.byte_level_bpe import RobertaTokenizer
    from simcse_tf.tokenizers.byte_pair_model import byte_characters

    merges = ["Ġ t", "h e", "Ġt he", "i n", "in g", "Ġ a"]
    merged = [merge.replace(" ", "") for merge in merges]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    return RobertaTokenizer(
        [*special, *byte_characters().values(), *merged, "<mask>"], merges
    )


def unigram():
    """An XLM-RoBERTa tokenizer: the letters, and a few longer pieces."""
    from simcse_tf.tokenizers.unigram import XLMRobertaTokenizer

    pieces = ["▁", *"abcdefghijklmnopqrstuvwxyzABCMTRST.", "▁the", "▁a", "ing", "▁m"]
    pieces = list(dict.fromkeys(pieces))
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    scores = [0.0] * 4 + [-2.0 - index / 8 for index in range(len(pieces))] + [0.0]
    return XLMRobertaTokenizer([*special, *pieces, "<mask>"], scores)


def _distilbert():
    import keras_hub

    return keras_hub.models.DistilBertBackbone, lambda: word_piece(4_000)


def _roberta():
    import keras_hub

    return keras_hub.models.RobertaBackbone, byte_level_bpe


def _xlm_roberta():
    import keras_hub

    return keras_hub.models.XLMRobertaBackbone, unigram


_PARTS = {
    "distilbert": _distilbert,
    "roberta": _roberta,
    "xlm_roberta": _xlm_roberta,
}
FAMILY_NAMES = tuple(_PARTS)
