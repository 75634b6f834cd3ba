"""RoBERTa's tokenizer in Hugging Face's files."""

from pathlib import Path
from typing import Any

from simcse_tf.checkpoints.tokenizer_source import TokenizerSource, enclosing_tokens
from simcse_tf.checkpoints.tokenizer_tokens import read_tokens
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import MAX_BYTES, shown, write_json
from simcse_tf.core.regular_files import read_file
from simcse_tf.tokenizers.byte_level_bpe import RobertaTokenizer
from simcse_tf.tokenizers.byte_pair_model import byte_characters

SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_CONFIG = "tokenizer_config.json"
_VERSION = "#version: 0.2"


def read_byte_level_bpe(source: TokenizerSource) -> RobertaTokenizer:
    """Reads RoBERTa's tokenizer from `tokenizer.json`, or from the older files.

    A `<mask>` of which no file says whether it takes the space before it does so, as in
    transformers 4. In version 5 it does not.

    Args:
        source: The tokenizer's files.

    Returns:
        `RobertaTokenizer`.

    Raises:
        UserError: If the files say what we do not implement.

    Example:

    ```python
    read_byte_level_bpe(TokenizerSource(Path("models/theirs"), "roberta"))
    ```
    """
    source.check_special_tokens(SPECIAL_TOKENS)
    # tokenizer_config.json decides, whatever tokenizer.json says.
    prefix = source.check_config("add_prefix_space", (True, False), False)
    if source.json is not None:
        vocabulary, merges = _from_json(source)
        in_json = source.part("pre_tokenizer").get("add_prefix_space")
        if (source.is_generic or not source.config) and in_json is not prefix:
            source.refuse(
                _CONFIG, "add_prefix_space", prefix, f"{in_json}, as in the json"
            )
    else:
        ids = source.read("vocab.json")
        vocabulary = source.in_order(ids, "vocab.json")
        merges = _read_merges(source.directory / "merges.txt")
    tokens = read_tokens(source, vocabulary, SPECIAL_TOKENS)
    return RobertaTokenizer(
        tokens.vocabulary, merges, add_prefix_space=prefix, added_tokens=tokens.added
    )


def _from_json(source: TokenizerSource) -> tuple[list[str], list[str]]:
    model = source.part("model")
    source.check("model.type", model["type"], ("BPE", ""))
    source.check("model.dropout", model.get("dropout"), (None, 0.0))
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        source.check(f"model.{key}", model.get(key), (None, ""))
    for key in ("byte_fallback", "ignore_merges"):
        source.check(f"model.{key}", model.get(key, False), (False,))
    source.check("normalizer", source.part("normalizer")["type"], ("",))
    pre_tokenizer = source.part("pre_tokenizer")
    source.check("pre_tokenizer.type", pre_tokenizer["type"], ("ByteLevel",))
    source.check(
        "pre_tokenizer.use_regex", pre_tokenizer.get("use_regex", True), (True,)
    )
    vocabulary = source.in_order(model.get("vocab"))
    ids = {token: index for index, token in enumerate(vocabulary)}
    if not ids.keys() >= set(byte_characters().values()):
        source.check("model.unk_token", model.get("unk_token"), (None,))
    expected = tuple((token, ids.get(token)) for token in ("<s>", "</s>"))
    source.check("post_processor", enclosing_tokens(source), (expected,))
    merges = model.get("merges") or []
    return vocabulary, [m if isinstance(m, str) else " ".join(m) for m in merges]


def _read_merges(path: Path) -> list[str]:
    try:
        text = read_file(path, MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason}") from None
    lines = text.split("\n")
    # transformers 4 skips the first line and the last one, whatever stands there.
    if not lines[0].startswith("#version") or lines[-1]:
        raise UserError(
            f"{path}: expected a first line '{_VERSION}' and a line break at the end; "
            f"received {shown(lines[0])} and {shown(lines[-1])}"
        )
    return lines[1:-1]


def byte_level_bpe_files(
    tokenizer: RobertaTokenizer, directory: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """RoBERTa's parts of `tokenizer.json` and of `tokenizer_config.json`.

    Writes `vocab.json` and `merges.txt`.

    Args:
        tokenizer: The tokenizer.
        directory: Where the files go.

    Returns:
        Two dicts.

    Example:

    ```python
    parts, config = byte_level_bpe_files(tokenizer, Path("models/mine"))
    config["add_prefix_space"]  # False
    ```
    """
    vocabulary = {token: index for index, token in enumerate(tokenizer.vocabulary)}
    write_json(directory / "vocab.json", vocabulary)
    lines = [_VERSION, *tokenizer.merges]
    (directory / "merges.txt").write_text(
        "".join(f"{line}\n" for line in lines), "utf-8"
    )
    space = {"add_prefix_space": tokenizer.add_prefix_space, "trim_offsets": True}
    parts = {
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", **space, "use_regex": True},
        "decoder": {"type": "ByteLevel", **space, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [merge.split(" ") for merge in tokenizer.merges],
        },
    }
    config = {
        "tokenizer_class": "RobertaTokenizer",
        "add_prefix_space": tokenizer.add_prefix_space,
    }
    return parts, config
