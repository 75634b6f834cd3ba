"""BERT's tokenizer in Hugging Face's files."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from simcse_tf.checkpoints.tokenizer_source import TokenizerSource, enclosing_tokens
from simcse_tf.checkpoints.tokenizer_tokens import Tokens, read_tokens
from simcse_tf.tokenizers.bert import BertTokenizer
from simcse_tf.tokenizers.bert_normalizer import MAX_CHARACTERS_PER_WORD, BertNormalizer
from simcse_tf.tokenizers.wordpiece_vocabulary import read_vocabulary

SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_BOOLEANS = (True, False)


def read_wordpiece(source: TokenizerSource) -> BertTokenizer:
    """Reads a WordPiece tokenizer from `tokenizer.json`, or else from `vocab.txt`.

    The classes of transformers take letter case, accents and Chinese characters from
    `tokenizer_config.json`, whatever `tokenizer.json` says. A missing key is the
    class's default.

    Args:
        source: The tokenizer's files.

    Returns:
        `BertTokenizer`.

    Raises:
        UserError: If the files say what we do not implement.

    Example:

    ```python
    read_wordpiece(TokenizerSource(Path("models/theirs"), "bert"))
    ```
    """
    source.check_special_tokens(SPECIAL_TOKENS)
    if source.json is not None:
        vocabulary = _from_json(source)
    else:
        source.check_config("do_basic_tokenize", (True, None), None)
        vocabulary = read_vocabulary(source.directory / "vocab.txt")
    normalization = _normalization(source)
    tokens = read_tokens(source, vocabulary, SPECIAL_TOKENS)
    tokenizer = BertTokenizer(
        tokens.vocabulary, added_tokens=tokens.added, **normalization
    )
    _check_words(source, tokens, tokenizer)
    return tokenizer


def _normalization(source: TokenizerSource) -> dict[str, Any]:
    normalizer = source.part("normalizer")
    if source.json is not None:
        source.check("normalizer.type", normalizer["type"], ("BertNormalizer",))
        source.check("normalizer.clean_text", normalizer.get("clean_text"), (True,))
    if source.is_generic:
        for key in ("lowercase", "handle_chinese_chars"):
            source.check(f"normalizer.{key}", normalizer.get(key), _BOOLEANS)
        accents = normalizer.get("strip_accents")
        source.check("normalizer.strip_accents", accents, (*_BOOLEANS, None))
        return {
            "lowercase": normalizer["lowercase"],
            "strip_accents": accents,
            "handle_chinese_chars": normalizer["handle_chinese_chars"],
        }
    return {
        "lowercase": source.check_config("do_lower_case", _BOOLEANS, True),
        "strip_accents": source.check_config("strip_accents", (*_BOOLEANS, None), None),
        "handle_chinese_chars": source.check_config(
            "tokenize_chinese_chars", _BOOLEANS, True
        ),
    }


def _from_json(source: TokenizerSource) -> list[str]:
    model = source.part("model")
    source.check("model.type", model["type"], ("WordPiece", ""))
    source.check("model.unk_token", model.get("unk_token"), ("[UNK]",))
    prefix = model.get("continuing_subword_prefix")
    source.check("model.continuing_subword_prefix", prefix, ("##",))
    limit = model.get("max_input_chars_per_word")
    source.check("model.max_input_chars_per_word", limit, (MAX_CHARACTERS_PER_WORD,))
    pre_tokenizer = source.part("pre_tokenizer")["type"]
    source.check("pre_tokenizer.type", pre_tokenizer, ("BertPreTokenizer",))
    vocabulary = source.in_order(model.get("vocab"))
    ids = {token: index for index, token in enumerate(vocabulary)}
    expected = tuple((token, ids.get(token)) for token in ("[CLS]", "[SEP]"))
    source.check("post_processor", enclosing_tokens(source), (expected,))
    return vocabulary


def _check_words(
    source: TokenizerSource, tokens: Tokens, tokenizer: BertTokenizer
) -> None:
    """Refuses an added token that our model would also find as a word."""
    for token in tokens.added:
        if token.id >= tokens.words and not token.normalized:
            content = token.content
            normalized = tokenizer.normalize([content]).numpy()[0].decode()
            if normalized == content and _is_word(content):
                source.refuse(
                    "tokenizer_config.json"
                    if source.json is None
                    else "tokenizer.json",
                    f"normalized of the added token {content!r}",
                    False,
                    "True for a plain word",
                )


def _is_word(content: str) -> bool:
    words = BertNormalizer(False, False, False).words(tf.constant([content]))
    return [word.decode() for word in words.values.numpy()] == [content]


def wordpiece_files(
    tokenizer: BertTokenizer, directory: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """BERT's parts of `tokenizer.json` and of `tokenizer_config.json`.

    Writes `vocab.txt`.

    Args:
        tokenizer: The tokenizer.
        directory: Where the file goes.

    Returns:
        Two dicts.

    Example:

    ```python
    parts, config = wordpiece_files(tokenizer, Path("models/mine"))
    config["do_lower_case"]  # True
    ```
    """
    tokenizer.save_vocabulary(directory / "vocab.txt")
    parts = {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": tokenizer.handle_chinese_chars,
            "strip_accents": tokenizer.strip_accents,
            "lowercase": tokenizer.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": MAX_CHARACTERS_PER_WORD,
            "vocab": {token: index for index, token in enumerate(tokenizer.vocabulary)},
        },
    }
    config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": tokenizer.lowercase,
        "strip_accents": tokenizer.strip_accents,
        "tokenize_chinese_chars": tokenizer.handle_chinese_chars,
    }
    return parts, config
