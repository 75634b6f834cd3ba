"""The added tokens that the files of a Hugging Face tokenizer declare."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from simcse_tf.checkpoints.tokenizer_source import SPECIAL_KEYS, TokenizerSource
from simcse_tf.tokenizers.added_tokens import AddedToken

_CONFIG = "tokenizer_config.json"
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized")


class _Declared(NamedTuple):
    """A token as a file declares it."""

    file: str
    id: int | None
    special: bool
    flags: dict[str, bool]


class Tokens(NamedTuple):
    """A vocabulary and its added tokens.

    Attributes:
        vocabulary: list of string. The model's tokens, then those that are added.
        added: tuple of `AddedToken`. What is found in the text itself.
        words: int. The number of the model's tokens.
    """

    vocabulary: list[str]
    added: tuple[AddedToken, ...]
    words: int


def read_tokens(
    source: TokenizerSource, vocabulary: list[str], defaults: Mapping[str, str]
) -> Tokens:
    """Finds the tokens that transformers would find in the text itself.

    These are the added tokens of `tokenizer.json` and `tokenizer_config.json`, or of
    `special_tokens_map.json` and `added_tokens.json` where the latter has none, and the
    special tokens.

    Args:
        source: The tokenizer's files.
        vocabulary: list of string. The model's tokens.
        defaults: Mapping from string to string. The special tokens of the tokenizer's
            class, by their keys in `tokenizer_config.json`.

    Returns:
        `Tokens`.

    Raises:
        UserError: If the files contradict each other, or declare what we do not
            implement.

    Example:

    ```python
    read_tokens(source, ["[PAD]", "[UNK]", "[CLS]", "[SEP]"], {"pad_token": "[PAD]"})
    ```
    """
    declared = _declared(source)
    names = _named(source, {} if source.is_generic else defaults)
    _check_agreement(source, declared, names)
    for content, named in names.items():
        is_known = content in declared or content in vocabulary
        # A special token without an id, such as a mask that the model never had, would
        # get one that no embedding has.
        if is_known:
            merged = declared.setdefault(content, named)
            declared[content] = merged._replace(special=True)
    ids = _ids(source, vocabulary, declared)
    return Tokens(
        vocabulary + sorted(set(ids) - set(vocabulary), key=ids.__getitem__),
        _found_in_text(source, declared, ids),
        len(vocabulary),
    )


def _declared(source: TokenizerSource) -> dict[str, _Declared]:
    declared: dict[str, _Declared] = {}
    for token in (source.json or {}).get("added_tokens") or []:
        _declare(source, declared, "tokenizer.json", token, token.get("id"))
    if "added_tokens_decoder" in source.config:
        for index, token in source.config["added_tokens_decoder"].items():
            _declare(source, declared, _CONFIG, token, int(index))
    else:
        special = _named(source, {})
        for content, index in (source.read("added_tokens.json") or {}).items():
            is_special = content in special
            token = {
                "content": content,
                "normalized": not is_special,
                "special": is_special,
            }
            _declare(source, declared, "added_tokens.json", token, index)
    return declared


def _declare(
    source: TokenizerSource,
    declared: dict[str, _Declared],
    file: str,
    token: dict[str, Any],
    index: int | None,
) -> None:
    content = token["content"]
    new = _Declared(file, index, bool(token.get("special")), _flags(token))
    old = declared.setdefault(content, new)
    if (old.id, old.flags) != (new.id, new.flags):
        source.refuse(
            file,
            f"the added token {content!r}",
            {"id": new.id, **new.flags},
            f"what {old.file} says: { ({'id': old.id, **old.flags})!r}",
        )


def _flags(token: dict[str, Any]) -> dict[str, bool]:
    defaults = {"normalized": not token.get("special", True)}
    return {flag: bool(token.get(flag, defaults.get(flag))) for flag in _FLAGS}


def _named(
    source: TokenizerSource, defaults: Mapping[str, str]
) -> dict[str, _Declared]:
    """The special tokens, by their contents."""
    tokens: list[Any] = []
    for key, value in {**defaults, **source.special_tokens()}.items():
        if key in SPECIAL_KEYS:
            tokens.append(value)
        else:
            tokens += value.values() if isinstance(value, dict) else value
    named: dict[str, _Declared] = {}
    for token in tokens:
        fields = {"content": token} if isinstance(token, str) else {**token}
        if token == defaults.get("mask_token") == "<mask>":
            # The classes of these families make it swallow the space before it.
            fields["lstrip"] = True
        flags = _flags({**fields, "special": True})
        named.setdefault(fields["content"], _Declared(_CONFIG, None, True, flags))
    return named


def _check_agreement(
    source: TokenizerSource,
    declared: dict[str, _Declared],
    names: dict[str, _Declared],
) -> None:
    """Refuses what transformers 4 and 5 read differently."""
    decoder = source.config.get("added_tokens_decoder")
    if decoder is None or source.is_generic:
        return
    known = {token["content"] for token in decoder.values()}
    for content, token in declared.items():
        named = names.get(content)
        if content not in known and (named is None or named.flags != token.flags):
            source.refuse(
                token.file,
                f"the added token {content!r}",
                token.id,
                f"the same token in added_tokens_decoder of {_CONFIG}",
            )


def _ids(
    source: TokenizerSource, vocabulary: list[str], declared: dict[str, _Declared]
) -> dict[str, int]:
    ids = {token: index for index, token in enumerate(vocabulary)}
    numbered = {c: t.id for c, t in declared.items() if t.id is not None}
    for content, index in sorted(numbered.items(), key=lambda item: item[1]):
        expected = ids.setdefault(content, len(ids))
        if index != expected:
            source.refuse(
                declared[content].file,
                f"the id of the added token {content!r}",
                index,
                f"{expected}, its place in the vocabulary or behind it",
            )
    return ids


def _found_in_text(
    source: TokenizerSource, declared: dict[str, _Declared], ids: dict[str, int]
) -> tuple[AddedToken, ...]:
    for content, token in declared.items():
        if token.flags["single_word"]:
            source.refuse(
                token.file, f"single_word of the added token {content!r}", True, "False"
            )
    special = {content for content, token in declared.items() if token.special}
    split = source.check_config("split_special_tokens", (True, False, None), False)
    if split:
        others = declared.keys() - special
        # Where they overlap, the plain special token would still hide the other one.
        if set("".join(others)) & set("".join(special)):
            source.refuse(
                _CONFIG,
                "split_special_tokens",
                True,
                "False beside added tokens that share characters with special ones",
            )
    # The reference looks for special tokens first.
    order = sorted(declared, key=lambda content: content not in special)
    return tuple(
        AddedToken(
            content,
            ids[content],
            lstrip=declared[content].flags["lstrip"],
            rstrip=declared[content].flags["rstrip"],
            normalized=declared[content].flags["normalized"],
        )
        for content in order
        if not (split and content in special)
    )
