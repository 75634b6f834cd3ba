"""Tokens that are looked up in the text itself, before it is split into words."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.ragged import chosen, first_of, side_by_side
from simcse_tf.tokenizers.vocabulary import is_unicode

# A byte that stands nowhere in UTF-8.
_MARK = b"\xff"
# Unicode's White_Space, which is what the `tokenizers` package trims.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
# With so many buckets no two tokens share one.
_BUCKETS = 2**62
# Twice as many, and one, are an int32.
_MANY = 2**30 - 1


class AddedToken(NamedTuple):
    """A token that is found in a text wherever its content stands there.

    Attributes:
        content: string. What stands in the text.
        id: int. The token's id.
        lstrip: bool. Whether white space before the token belongs to it.
        rstrip: bool. Whether white space behind the token belongs to it.
        normalized: bool. Whether the normalized text is searched for the normalized
            content, instead of the text as it came.

    Example:

    ```python
    AddedToken("[MASK]", id=103)._asdict()  # its form in JSON
    ```
    """

    content: str
    id: int
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False


def added_tokens_of(
    tokens: Sequence[AddedToken | dict[str, Any]], vocabulary_size: int
) -> tuple[AddedToken, ...]:
    """Checks the added tokens of a tokenizer.

    Args:
        tokens: Sequence of `AddedToken`, or of their form in JSON.
        vocabulary_size: int. The number of ids.

    Returns:
        tuple of `AddedToken`.

    Raises:
        UserError: If a token is empty, is not valid Unicode, or has no id of the
            vocabulary.

    Example:

    ```python
    added_tokens_of([{"content": "[MASK]", "id": 4}], vocabulary_size=30_522)
    ```
    """
    checked = []
    for token in tokens:
        try:
            added = AddedToken(**token) if isinstance(token, dict) else token
        except TypeError:
            raise UserError(
                f"added_tokens: expected the keys {', '.join(AddedToken._fields)}; "
                f"received {token!r}"
            ) from None
        content = added.content
        if not isinstance(content, str) or not content or not _is_searchable(content):
            raise UserError(
                "added_tokens: expected a text of valid Unicode, not empty; "
                f"received {content!r}"
            )
        if not isinstance(added.id, int) or not 0 <= added.id < vocabulary_size:
            raise UserError(
                f"added_tokens: expected an id below {vocabulary_size} for "
                f"{content!r}; received {added.id!r}"
            )
        checked.append(added)
    return tuple(checked)


def tokenize_around(
    text: tf.Tensor,
    tokens: Sequence[AddedToken],
    plain: Callable[[tf.Tensor], tf.RaggedTensor],
    normalize: Callable[[tf.Tensor], tf.Tensor] | None = None,
    plain_normalized: Callable[[tf.Tensor], tf.RaggedTensor] | None = None,
    room: tf.Tensor | None = None,
) -> tf.RaggedTensor:
    """Gives added tokens their ids, and tokenizes the texts between them.

    The ids are those of the `tokenizers` package: the leftmost match counts, and of
    those that start there the longest. What stands between two tokens is tokenized as
    a text of its own. The tokens to be found in the normalized text are looked for
    after the others, in what is left.

    Args:
        text: String tensor of shape `[n]`.
        tokens: Sequence of `AddedToken`. Of two with the same content the first
            counts, but contents that only normalizing makes the same are refused.
        plain: Callable. Turns a string tensor of shape `[m]` into ids, a
            `tf.RaggedTensor` of dtype int32 and shape `[m, None]`, with nothing around
            them. An empty text has no ids.
        normalize: Callable or `None`. What `plain` does to the text first: string
            tensor of shape `[m]` in and out. `None` if it does nothing.
        plain_normalized: Callable or `None`. The rest of `plain`, for a text that is
            normalized already. `None` if `normalize` is.
        room: int32 scalar or `None`. How many ids of each text are used. Defaults to
            `None`, all of them.

    Returns:
        `tf.RaggedTensor` of dtype int32 and shape `[n, None]`.

    Raises:
        UserError: If normalizing leaves nothing of a token, or makes two the same.

    Example:

    ```python
    def plain(texts):
        return tf.strings.length(tf.strings.split(texts))

    tokens = [AddedToken("[MASK]", id=99)]
    tokenize_around(tf.constant(["so a [MASK] it is"]), tokens, plain)
    # <tf.RaggedTensor [[2, 1, 99, 2, 2]]>
    ```
    """
    raw = [token for token in tokens if not token.normalized]
    late = [token for token in tokens if token.normalized]

    def late_around(pieces: tf.Tensor) -> tf.RaggedTensor:
        if normalize is None or plain_normalized is None:
            return _around(pieces, late, plain, room)
        return _around(
            normalize(pieces), _with_contents(late, normalize), plain_normalized, room
        )

    return _around(text, raw, late_around if late else plain, room)


def _with_contents(
    tokens: list[AddedToken], normalize: Callable[[tf.Tensor], tf.Tensor]
) -> list[AddedToken]:
    """The tokens with their contents normalized, as the text is."""
    with tf.init_scope():
        contents = normalize(tf.constant([token.content for token in tokens])).numpy()
    first: dict[bytes, AddedToken] = {}
    for token, content in zip(tokens, contents, strict=True):
        if not content:
            raise UserError(
                f"added_tokens: nothing is left of {token.content!r} once it is "
                "normalized; expected normalized=False"
            )
        # The `tokenizers` package finds one of them by chance.
        if first.setdefault(content, token).id != token.id:
            raise UserError(
                f"added_tokens: {first[content].content!r} and {token.content!r} are "
                "the same once they are normalized; expected one of them"
            )
    return [
        token._replace(content=content.decode())
        for token, content in zip(tokens, contents, strict=True)
    ]


def _around(
    text: tf.Tensor,
    tokens: list[AddedToken],
    plain: Callable[[tf.Tensor], tf.RaggedTensor],
    room: tf.Tensor | None,
) -> tf.RaggedTensor:
    if not tokens:
        return plain(text)
    longest_first = sorted((token.content for token in tokens), key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first))
    # `\C` is any byte, also one that is not UTF-8.
    matches = tf.strings.regex_full_match(text, rf"\C*(?:{pattern})\C*")
    # Such texts are rare, and taking them apart costs more than the search.
    is_found = tf.reduce_any(matches)

    def parts() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return _parts(text, pattern, tokens, room)

    def whole() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        size = tf.size(text, tf.int64)
        return text, tf.fill([size], len(tokens)), tf.range(size + 1)

    between, index, row_splits = tf.cond(is_found, parts, whole)
    ids = plain(between)
    token_ids = tf.constant([token.id for token in tokens])
    return tf.cond(
        is_found, lambda: _merge(ids, index, row_splits, token_ids), lambda: ids
    )


def _parts(
    text: tf.Tensor, pattern: str, tokens: list[AddedToken], room: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Takes texts apart: text, token, text, and so on.

    Returns:
        The parts of all texts, with an empty one for each token; the index of each
        part's token, past the last for a text; and where each text's parts begin.
    """
    unicode = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8")
    marked = tf.strings.regex_replace(unicode, f"({pattern})", _MARK + rb"\1" + _MARK)
    parts = tf.strings.split(marked, _MARK)
    if room is not None:
        # Every other part is a token, of one id. The part behind the last one that is
        # kept ends its text, as the trimming below expects.
        parts = first_of(parts, 2 * tf.minimum(room, _MANY) + 1)
    is_token = tf.ragged.range(parts.row_lengths()).values % 2 == 1
    index = tf.where(is_token, _index(parts.values, tokens), len(tokens))

    between = tf.where(is_token, "", parts.values)
    for strips_of, space, step in (
        ([token.rstrip for token in tokens], f"^[{WHITE_SPACE}]+", 1),
        ([token.lstrip for token in tokens], f"[{WHITE_SPACE}]+$", -1),
    ):
        if any(strips_of):
            strips = tf.gather(tf.constant([*strips_of, False]), index)
            trimmed = tf.strings.regex_replace(between, space, "")
            # Each text begins and ends with a part that is no token, so nothing rolls
            # from one text into the next.
            between = tf.where(tf.roll(strips, step, axis=0), trimmed, between)
    return between, index, parts.row_splits


def _merge(
    ids: tf.RaggedTensor, index: tf.Tensor, row_splits: tf.Tensor, token_ids: tf.Tensor
) -> tf.RaggedTensor:
    """Puts the tokens' ids where the parts that stand for them have none."""
    is_token = index < tf.size(token_ids)
    of_tokens = tf.RaggedTensor.from_row_lengths(
        tf.gather(token_ids, chosen(index, is_token)),
        tf.cast(is_token, tf.int64),
        validate=False,
    )
    both = side_by_side(ids, of_tokens)
    splits = tf.gather(both.row_splits, row_splits)
    return tf.RaggedTensor.from_row_splits(both.values, splits, validate=False)


def _index(parts: tf.Tensor, tokens: list[AddedToken]) -> tf.Tensor:
    """The first token with a part's content; any number for other parts."""
    first = {token.content: index for index, token in reversed([*enumerate(tokens)])}
    keys = tf.strings.to_hash_bucket_fast(tf.constant([*first]), _BUCKETS)
    order = tf.argsort(keys)
    hashed = tf.strings.to_hash_bucket_fast(parts, _BUCKETS)
    position = tf.searchsorted(tf.gather(keys, order), hashed)
    indices = tf.gather(tf.constant([*first.values()]), order)
    return tf.gather(indices, tf.minimum(position, len(first) - 1))


def _is_searchable(content: str) -> bool:
    # A broken byte counts as U+FFFD, but the search meets the byte.
    return is_unicode(content) and "\ufffd" not in content
