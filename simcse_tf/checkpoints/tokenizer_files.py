"""Tokenizers in Hugging Face's files: read as transformers reads them, and written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from simcse_tf.checkpoints import tokenizer_byte_level_bpe, tokenizer_wordpiece
from simcse_tf.checkpoints.tokenizer_byte_level_bpe import (
    byte_level_bpe_files,
    read_byte_level_bpe,
)
from simcse_tf.checkpoints.tokenizer_source import TokenizerSource
from simcse_tf.checkpoints.tokenizer_wordpiece import read_wordpiece, wordpiece_files
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import write_json
from simcse_tf.tokenizers.added_tokens import AddedToken
from simcse_tf.tokenizers.base import Tokenizer
from simcse_tf.tokenizers.bert import BertTokenizer
from simcse_tf.tokenizers.byte_level_bpe import RobertaTokenizer


class _Family(NamedTuple):
    """How a family of tokenizers is read and written.

    Attributes:
        classes: Names of its classes in transformers.
        model: The name of its model in `tokenizer.json`.
        read: Callable. From the files to our tokenizer.
        tokenizer: Our tokenizer's class.
        write: Callable. From our tokenizer and a directory to the family's parts of
            `tokenizer.json` and `tokenizer_config.json`.
        special_tokens: Mapping. The names of its special tokens, by their keys.
    """

    classes: tuple[str, ...]
    model: str
    read: Callable[[TokenizerSource], Tokenizer]
    tokenizer: type[Any]
    write: Callable[[Any, Path], tuple[dict[str, Any], dict[str, Any]]]
    special_tokens: dict[str, str]


_FAMILIES = (
    _Family(
        ("BertTokenizer", "DistilBertTokenizer"),
        "WordPiece",
        read_wordpiece,
        BertTokenizer,
        wordpiece_files,
        tokenizer_wordpiece.SPECIAL_TOKENS,
    ),
    _Family(
        ("RobertaTokenizer",),
        "BPE",
        read_byte_level_bpe,
        RobertaTokenizer,
        byte_level_bpe_files,
        tokenizer_byte_level_bpe.SPECIAL_TOKENS,
    ),
)


def read_tokenizer(directory: Path, model_type: str) -> Tokenizer:
    """Reads the tokenizer that transformers would load from a directory.

    The ids are those of transformers 4.57 and of 5. Where these two read the files
    differently, or the files ask for what we do not implement, there is an error.

    Args:
        directory: A directory in Hugging Face's format.
        model_type: string. As in `config.json`. It decides where no file names the
            tokenizer's class.

    Returns:
        `Tokenizer`. Its added tokens are the special tokens, which control the model
        when they stand in a text, and those that a user added.

    Raises:
        UserError: If a file is missing or says what we do not implement. It names the
            file, the key and its value.

    Example:

    ```python
    tokenizer = read_tokenizer(Path("models/theirs"), "bert")
    tokenizer(["A sentence."], max_length=32)
    ```
    """
    source = TokenizerSource(directory, model_type)
    for family in _FAMILIES:
        if _is_of(source, family):
            return family.read(source)
    if source.is_generic:
        model = source.part("model")["type"]
        known = " or ".join(family.model for family in _FAMILIES)
        source.refuse("tokenizer.json", "model.type", model, known)
    classes = ", ".join(name for family in _FAMILIES for name in family.classes)
    source.refuse(
        "tokenizer_config.json", "tokenizer_class", source.class_name, classes
    )


def _is_of(source: TokenizerSource, family: _Family) -> bool:
    if source.is_generic:
        return source.part("model")["type"] == family.model
    return source.class_name in family.classes


def write_tokenizer(
    tokenizer: Tokenizer, directory: Path, max_length: int, model_type: str = ""
) -> None:
    """Writes a tokenizer in the files that transformers and `tokenizers` load.

    A tokenizer without added tokens takes a special token in a text for plain text.
    `tokenizer_config.json` says so to transformers, with `split_special_tokens`.
    `tokenizer.json` alone cannot say it: there, special tokens control the model.

    Args:
        tokenizer: The tokenizer.
        directory: Where the files go. It exists.
        max_length: int. The most ids in a row, those that enclose it included.
        model_type: string. As in `config.json`. `"distilbert"` has a class of its own,
            which makes no token types. Defaults to `""`.

    Raises:
        UserError: If the tokenizer has no form in these files.

    Example:

    ```python
    write_tokenizer(model.tokenizer, Path("models/mine"), model.max_length)
    ```
    """
    family = next((f for f in _FAMILIES if type(tokenizer) is f.tokenizer), None)
    if family is None:
        raise UserError(
            f"a {type(tokenizer).__name__} has no form in Hugging Face's files"
        )
    parts, config = family.write(tokenizer, directory)
    if model_type == "distilbert":
        config["tokenizer_class"] = "DistilBertTokenizer"
    names = {
        key: content
        for key, content in family.special_tokens.items()
        if content in tokenizer.vocabulary
    }
    added, splits = _added_tokens(tokenizer, names)
    cls, sep = names["cls_token"], names["sep_token"]
    values = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        **parts,
        "post_processor": _template(
            (cls, tokenizer.cls_token_id), (sep, tokenizer.sep_token_id)
        ),
    }
    decoder = {
        str(token["id"]): {key: token[key] for key in token if key != "id"}
        for token in added
    }
    write_json(directory / "tokenizer.json", values)
    write_json(directory / "special_tokens_map.json", names)
    write_json(
        directory / "tokenizer_config.json",
        {
            **config,
            **names,
            "added_tokens_decoder": decoder,
            "split_special_tokens": splits,
            "model_max_length": max_length,
            "clean_up_tokenization_spaces": False,
        },
    )


def _added_tokens(
    tokenizer: Tokenizer, names: dict[str, str]
) -> tuple[list[dict[str, Any]], bool]:
    """The added tokens in the form of `tokenizer.json`, and whether special tokens
    are plain text."""
    special = dict.fromkeys(names.values())
    own = {token.content: token for token in tokenizer.added_tokens}
    controls = special.keys() & own.keys()
    if controls and controls != special.keys():
        missing = ", ".join(sorted(special.keys() - controls))
        raise UserError(
            "Hugging Face's files take special tokens in a text all alike; expected "
            f"all of them among the added tokens or none, but {missing} are missing"
        )
    for content in special:
        index = tokenizer.vocabulary.index(content)
        mask = AddedToken(content, index, lstrip=content == "<mask>")
        own.setdefault(content, mask)
    added = [
        {**token._asdict(), "single_word": False, "special": token.content in special}
        for token in sorted(own.values(), key=lambda token: token.id)
    ]
    return added, not controls


def _template(cls: tuple[str, int], sep: tuple[str, int]) -> dict[str, Any]:
    def token(content: str, kind: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": content, "type_id": kind}}

    def text(name: str, kind: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": kind}}

    single = [token(cls[0], 0), text("A", 0), token(sep[0], 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", 1), token(sep[0], 1)],
        "special_tokens": {
            content: {"id": content, "ids": [index], "tokens": [content]}
            for content, index in (cls, sep)
        },
    }
