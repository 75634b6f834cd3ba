"""XLM-RoBERTa's tokenizer in Hugging Face's files."""

from pathlib import Path
from typing import Any

from simcse_tf.checkpoints import tokenizer_byte_level_bpe
from simcse_tf.checkpoints.tokenizer_source import TokenizerSource, enclosing_tokens
from simcse_tf.checkpoints.tokenizer_tokens import read_tokens
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import MAX_BYTES
from simcse_tf.core.regular_files import read_file
from simcse_tf.tokenizers.unigram import XLMRobertaTokenizer

SPECIAL_TOKENS = tokenizer_byte_level_bpe.SPECIAL_TOKENS
_JSON = "tokenizer.json"
_FILE = "sentencepiece.bpe.model"

_METASPACE = {
    "type": "Metaspace",
    "replacement": "\u2581",
    "prepend_scheme": "always",
    "split": True,
}
_STRIP = {"type": "Strip", "strip_left": False, "strip_right": True}
_MERGE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
_MARK = {**_MERGE, "content": "\u2581"}
# For each treatment of white space: the normalizers behind Precompiled, and the
# pre-tokenizer.
_PIPELINES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "split": (
        [],
        {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, _METASPACE],
        },
    ),
    "merge": ([_MERGE], _METASPACE),
    "strip": ([_STRIP, _MARK], _METASPACE),
    "keep": ([], _METASPACE),
}
# The class of transformers 5 knows one of them only.
_OF_CLASS = "split"


def read_unigram(source: TokenizerSource) -> XLMRobertaTokenizer:
    """Reads XLM-RoBERTa's tokenizer from `tokenizer.json`, or SentencePiece's file.

    White space is treated as `tokenizer.json` says, or as transformers 4 makes one.
    Version 5 splits texts at white space whatever the file says. The difference shows
    in texts that end in white space or hold U+2581 or U+0085, and in no others. A text
    ends before an added token, too.

    Args:
        source: The tokenizer's files.

    Returns:
        `XLMRobertaTokenizer`.

    Raises:
        UserError: If the files say what we do not implement.

    Example:

    ```python
    read_unigram(TokenizerSource(Path("models/theirs"), "xlm-roberta"))
    ```
    """
    source.check_special_tokens(SPECIAL_TOKENS)
    source.check_config("add_prefix_space", (True, None), None)
    if source.json is not None:
        vocabulary, config = _from_json(source)
    else:
        vocabulary, config = _from_file(source.directory / _FILE)
    tokens = read_tokens(source, vocabulary, SPECIAL_TOKENS)
    found = {token.content for token in tokens.added}
    for content in SPECIAL_TOKENS.values():
        # The model's words include them, and so they would be found as words.
        if content in vocabulary and content not in found:
            split = source.config.get("split_special_tokens", False)
            if split:
                source.refuse(
                    "tokenizer_config.json", "split_special_tokens", split, "False"
                )
            source.refuse(_JSON, "added_tokens", [*found], f"{content} among them")
    return XLMRobertaTokenizer(tokens.vocabulary, added_tokens=tokens.added, **config)


def _from_json(source: TokenizerSource) -> tuple[list[str], dict[str, Any]]:
    model = source.part("model")
    source.check("model.type", model["type"], ("Unigram", ""))
    source.check("model.byte_fallback", model.get("byte_fallback", False), (False,))
    pieces = model.get("vocab") or []
    vocabulary = [piece for piece, _ in pieces]
    ids = {token: index for index, token in enumerate(vocabulary)}
    unknown = 3 if not source.is_generic else ids.get("<unk>")
    source.check("model.unk_id", model.get("unk_id"), (unknown,))
    source.check("vocabulary of model: id of <unk>", ids.get("<unk>"), (unknown,))
    expected = tuple((token, ids.get(token)) for token in ("<s>", "</s>"))
    source.check("post_processor", enclosing_tokens(source), (expected,))
    charsmap, normalizers = _normalizers(source)
    return vocabulary, {
        "scores": [score for _, score in pieces],
        "charsmap": charsmap,
        "spaces": _spaces(source, normalizers),
    }


def _normalizers(source: TokenizerSource) -> tuple[str | None, list[dict[str, Any]]]:
    """The precompiled normalizer, if there is one, and those behind it."""
    normalizer = source.part("normalizer")
    if normalizer["type"] == "Sequence":
        normalizers = normalizer.get("normalizers") or []
    else:
        normalizers = [normalizer] if normalizer["type"] else []
    if normalizers and normalizers[0]["type"] == "Precompiled":
        return normalizers[0].get("precompiled_charsmap"), normalizers[1:]
    return None, normalizers


def _spaces(source: TokenizerSource, normalizers: list[dict[str, Any]]) -> str:
    pre_tokenizer = source.part("pre_tokenizer")
    if pre_tokenizer["type"] == "Sequence":
        parts = pre_tokenizer.get("pretokenizers") or []
        pre_tokenizer = {
            "type": "Sequence",
            "pretokenizers": [_without_older_keys(part) for part in parts],
        }
    else:
        pre_tokenizer = _without_older_keys(pre_tokenizer)
    for name, pipeline in _PIPELINES.items():
        if pipeline == (normalizers, pre_tokenizer):
            return name
    # Several spaces end a word like one.
    if (normalizers, pre_tokenizer) == ([_MERGE], _PIPELINES["split"][1]):
        return "split"
    source.refuse(
        _JSON,
        "normalizer and pre_tokenizer",
        [*normalizers, pre_tokenizer],
        "Precompiled, then WhitespaceSplit and Metaspace, or Metaspace with Strip and "
        "Replace of several spaces",
    )


def _without_older_keys(part: dict[str, Any]) -> dict[str, Any]:
    """Metaspace as it is written today."""
    if part.get("type") != "Metaspace":
        return part
    known = {"split": True, **part}
    known.pop("str_rep", None)
    if known.pop("add_prefix_space", None):
        known.setdefault("prepend_scheme", "always")
    return known


def _from_file(path: Path) -> tuple[list[str], dict[str, Any]]:
    file = read_file(path, MAX_BYTES)
    try:
        tokenizer = XLMRobertaTokenizer.from_sentencepiece(file, spaces="strip")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    config = tokenizer.get_config()
    del config["added_tokens"]
    return tokenizer.vocabulary, config


def unigram_files(
    tokenizer: XLMRobertaTokenizer, directory: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """XLM-RoBERTa's parts of `tokenizer.json` and of `tokenizer_config.json`.

    Writes `sentencepiece.bpe.model`, where the vocabulary has a form in it.

    Args:
        tokenizer: The tokenizer.
        directory: Where the file goes.

    Returns:
        Two dicts.

    Example:

    ```python
    parts, config = unigram_files(tokenizer, Path("models/mine"))
    config["tokenizer_class"]  # "XLMRobertaTokenizer"
    ```
    """
    normalizers, pre_tokenizer = _PIPELINES[tokenizer.spaces]
    if tokenizer.charsmap:
        precompiled = {
            "type": "Precompiled",
            "precompiled_charsmap": tokenizer.charsmap,
        }
        normalizers = [precompiled, *normalizers]
    words = [[*w] for w in zip(tokenizer.vocabulary, tokenizer.scores, strict=False)]
    parts = {
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": pre_tokenizer,
        "decoder": _METASPACE,
        "model": {
            "type": "Unigram",
            "unk_id": tokenizer.unk_token_id,
            "vocab": words,
            "byte_fallback": False,
        },
    }
    is_of_class = tokenizer.spaces == _OF_CLASS and tokenizer.unk_token_id == 3
    if is_of_class and words[-1][0] == "<mask>":
        (directory / _FILE).write_bytes(tokenizer.to_sentencepiece())
    name = "XLMRobertaTokenizer" if is_of_class else "PreTrainedTokenizerFast"
    return parts, {"tokenizer_class": name}
