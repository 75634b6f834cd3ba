"""BERT's own tokenization, exactly, inside the TensorFlow graph."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers import unicode_tables

MAX_CHARACTERS_PER_WORD = 100

_MAX_BYTES_PER_CHARACTER = 4
_COMBINING_CLASSES = 256
# What `tokenizers` trims from the end of a line: Unicode's White_Space. Python's
# own `rstrip()` would also take the separators U+001C to U+001F.
_WHITESPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)


class BertTokenizer:
    """Splits raw text into BERT's WordPiece ids, with `[CLS]` and `[SEP]`.

    The ids are those of the `tokenizers` package (`BertNormalizer`,
    `BertPreTokenizer`, `WordPiece`) for every string: bytes that are not UTF-8
    count as U+FFFD, a word of more than 100 characters is `[UNK]`, and a special
    token in the text is plain text. All of it is TensorFlow and TF Text ops, so it
    runs eagerly, in `tf.data`, in a `tf.function` and in a SavedModel, whatever the
    process's locale and whatever Unicode version those libraries know.

    Each code point is looked up in one table; the words that come out go through
    TF Text's linear-time WordPiece.

    Args:
        vocabulary: string or a sequence of strings. Path of a `vocab.txt` with one
            token a line, or the tokens. A token's position is its id.
        lowercase: bool. Whether to lower-case the text. Defaults to `True`.
        strip_accents: bool or `None`. Whether to remove accents. `None` is the
            same as `lowercase`, as in BERT. Defaults to `None`.

    Raises:
        UserError: If the vocabulary cannot be read, lacks one of `[PAD]`, `[UNK]`,
            `[CLS]` and `[SEP]`, or has a token twice.

    Example:

    ```python
    tokenizer = BertTokenizer(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "play", "##ing", "cafe", "!"]
    )
    tokenizer(["Playing!", "CAFÉ", ""], max_length=32)
    # <tf.RaggedTensor [[2, 4, 5, 7, 3], [2, 6, 3], [2, 3]]>
    ```

    Reference:
        - [Devlin et al. 2019](https://arxiv.org/abs/1810.04805)
        - [Wu et al. 2016](https://arxiv.org/abs/1609.08144), the word pieces
        - [Song et al. 2021](https://arxiv.org/abs/2012.15524), the algorithm
    """

    def __init__(
        self,
        vocabulary: str | os.PathLike[str] | Sequence[str],
        lowercase: bool = True,
        strip_accents: bool | None = None,
    ):
        if isinstance(vocabulary, str | os.PathLike):
            source = f"vocabulary {os.fspath(vocabulary)}"
            self.vocabulary = _read_vocabulary(vocabulary)
        else:
            source = "vocabulary"
            self.vocabulary = list(vocabulary)
        self.lowercase = bool(lowercase)
        self.strip_accents = bool(lowercase if strip_accents is None else strip_accents)

        ids = _unique_ids(self.vocabulary, source)
        self.pad_token_id = _required_id("[PAD]", ids, source)
        self.unk_token_id = _required_id("[UNK]", ids, source)
        self.cls_token_id = _required_id("[CLS]", ids, source)
        self.sep_token_id = _required_id("[SEP]", ids, source)
        self.mask_token_id: int | None = ids.get("[MASK]")

        table = unicode_tables.code_point_table(self.lowercase, self.strip_accents)
        with tf.init_scope(), tf.device("CPU"):
            self._pages = tf.constant(table.pages)
            self._rows = tf.constant(table.rows)
            self._codes = tf.RaggedTensor.from_row_splits(table.codes, table.row_splits)
            self._wordpiece = _wordpiece(self.vocabulary, source)

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens in the vocabulary."""
        return len(self.vocabulary)

    def normalize(self, text: Any) -> tf.Tensor:
        """Cleans, lower-cases and strips text as BERT does before it splits words.

        Args:
            text: String tensor of shape `[n]`, or what converts to one.

        Returns:
            String tensor of shape `[n]`, in UTF-8.

        Raises:
            UserError: If `text` has not one dimension.
        """
        return self._normalize(_as_strings(text))

    def __call__(self, text: Any, max_length: int) -> tf.RaggedTensor:
        """Tokenizes a batch of texts.

        Args:
            text: String tensor of shape `[n]`, or what converts to one.
            max_length: int, at least 2. The most ids in a row, `[CLS]` and
                `[SEP]` included; what does not fit is cut before `[SEP]`.

        Returns:
            `tf.RaggedTensor` of dtype int32 and shape `[n, None]`: in each row
            `[CLS]`, the text's ids, `[SEP]`.

        Raises:
            UserError: If `max_length` is not an int of at least 2, or `text`
                has not one dimension.
        """
        if not isinstance(max_length, int) or max_length < 2:
            raise UserError(
                "max_length must be an int of at least 2, for [CLS] and [SEP]; "
                f"received {max_length!r}"
            )
        return self._tokenize(_as_strings(text), max_length)

    def get_config(self) -> dict[str, bool]:
        """Returns the arguments of the constructor, without the vocabulary."""
        return {"lowercase": self.lowercase, "strip_accents": self.strip_accents}

    @classmethod
    def from_keras_hub(cls, tokenizer: Any) -> "BertTokenizer":
        """Takes vocabulary and settings over from KerasHub's tokenizer.

        Args:
            tokenizer: A `keras_hub.tokenizers.WordPieceTokenizer`.
        """
        return cls(
            tokenizer.get_vocabulary(),
            lowercase=tokenizer.lowercase,
            # KerasHub leaves it off for Hugging Face checkpoints, where it follows
            # the letter case.
            strip_accents=tokenizer.strip_accents or None,
        )

    def to_keras_hub(self) -> Any:
        """Returns a `keras_hub.models.BertTokenizer`, which knows the file format."""
        import keras_hub

        return keras_hub.models.BertTokenizer(
            vocabulary=self.vocabulary,
            lowercase=self.lowercase,
            strip_accents=self.strip_accents,
        )

    def save_vocabulary(self, path: str | os.PathLike[str]) -> None:
        """Writes the vocabulary as a `vocab.txt` that reads back the same.

        Args:
            path: The file to write.

        Raises:
            UserError: If a token cannot stand on a line of its own.
        """
        for index, token in enumerate(self.vocabulary):
            if "\n" in token or token != token.rstrip(_WHITESPACE):
                raise UserError(
                    f"cannot save token {index} of the vocabulary, {token!r}: a "
                    "vocab.txt holds no line break and no space at a token's end"
                )
        text = "".join(token + "\n" for token in self.vocabulary)
        Path(path).write_bytes(text.encode("utf-8"))

    # Compiled once, whatever calls them: run op by op they would take some 20 ms.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def _normalize(self, text: tf.Tensor) -> tf.Tensor:
        with tf.device("CPU"):
            points = self._code_points(text)
            written = points != unicode_tables.WORD_BREAK
            return _encode(tf.ragged.boolean_mask(points, written))

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)],
        autograph=False,
    )
    def _tokenize(self, text: tf.Tensor, max_length: tf.Tensor) -> tf.RaggedTensor:
        with tf.device("CPU"):
            points = self._code_points(text)
            is_break = points.values == unicode_tables.WORD_BREAK
            spaced = points.with_values(tf.where(is_break, ord(" "), points.values))
            words = tf.strings.split(_encode(spaced), " ")
            known = words.with_values(_without_long_words(words.values))
            ids = self._wordpiece.tokenize(known).merge_dims(1, 2)
            return self._enclose(ids[:, : max_length - 2])

    def _code_points(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Normalized code points, with `WORD_BREAK` on both sides of punctuation."""
        characters = tf.strings.unicode_decode(text, "UTF-8")
        codes = self._look_up(characters.values)
        sources = tf.gather(characters.values, codes.value_rowids())
        is_source = _code_points(codes.values) == unicode_tables.ITSELF
        resolved = tf.where(
            is_source, codes.values - unicode_tables.ITSELF + sources, codes.values
        )
        splits = tf.gather(codes.row_splits, characters.row_splits)
        normalized = tf.RaggedTensor.from_row_splits(resolved, splits, validate=False)
        return _order_marks(normalized) if self.strip_accents else normalized

    def _look_up(self, points: tf.Tensor) -> tf.RaggedTensor:
        page_size = unicode_tables.PAGE_SIZE
        page = tf.gather(self._pages, points // page_size)
        row = tf.gather(self._rows, page * page_size + points % page_size)
        return tf.gather(self._codes, row)

    def _enclose(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        column = tf.ones([ids.nrows(), 1], tf.int32)
        return tf.concat(
            [column * self.cls_token_id, ids, column * self.sep_token_id], axis=1
        )


def _as_strings(text: Any) -> tf.Tensor:
    strings = tf.convert_to_tensor(text, tf.string)
    if strings.shape.rank != 1:
        raise UserError(
            f"text must be a batch of strings of shape [n]; received {strings.shape}"
        )
    return strings


def _code_points(codes: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_and(codes, unicode_tables.CODE_POINT_MASK)


def _order_marks(codes: tf.RaggedTensor) -> tf.RaggedTensor:
    """Puts the marks that stripping left into Unicode's canonical order."""
    classes = tf.bitwise.right_shift(codes.values, unicode_tables.COMBINING_SHIFT)

    def in_order() -> tf.Tensor:
        # Marks sort between two code points of class 0, and within a text.
        runs = tf.cumsum(tf.cast(classes == 0, tf.int64)) + codes.value_rowids()
        keys = runs * _COMBINING_CLASSES + tf.cast(classes, tf.int64)
        return tf.gather(codes.values, tf.argsort(keys, stable=True))

    # Such marks are rare, and sorting costs more than all the rest.
    values = tf.cond(tf.reduce_any(classes > 0), in_order, lambda: codes.values)
    points = codes.with_values(_code_points(values))
    return tf.ragged.boolean_mask(points, points != unicode_tables.BARRIER)


def _encode(points: tf.RaggedTensor) -> tf.Tensor:
    return tf.strings.unicode_encode(points, "UTF-8")


def _without_long_words(words: tf.Tensor) -> tf.Tensor:
    lengths = tf.strings.length(words, unit="UTF8_CHAR")
    return tf.where(lengths > MAX_CHARACTERS_PER_WORD, "[UNK]", words)


def _read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(
            f"cannot read the vocabulary {path}: {error.strerror}"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"vocabulary {path} is not UTF-8 (byte {error.start}); expected a "
            "vocab.txt, one token a line"
        ) from None
    # `str.splitlines` would also split at U+2028 and the like.
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.rstrip(_WHITESPACE) for line in lines]


def _unique_ids(vocabulary: list[str], source: str) -> dict[str, int]:
    ids: dict[str, int] = {}
    for index, token in enumerate(vocabulary):
        if not _is_unicode(token):
            raise UserError(
                f"{source}: expected a string of valid Unicode on line {index + 1}; "
                f"received {token!r}"
            )
        if token and token in ids:
            raise UserError(
                f"{source}: the token {token!r} is there twice, on lines "
                f"{ids[token] + 1} and {index + 1}; remove one"
            )
        ids[token] = index
    return ids


def _is_unicode(token: Any) -> bool:
    return isinstance(token, str) and not any(0xD800 <= ord(c) < 0xE000 for c in token)


def _required_id(token: str, ids: dict[str, int], source: str) -> int:
    if token not in ids:
        raise UserError(f"{source}: no {token} in it; BERT needs that token")
    return ids[token]


def _wordpiece(vocabulary: list[str], source: str) -> tf_text.FastWordpieceTokenizer:
    # The builder refuses some tokens that match nothing anyway, such as a second
    # blank line; those keep their ids under names that match nothing either.
    tokens = [
        token if _can_match(token) else f"\x01{index}"
        for index, token in enumerate(vocabulary)
    ]
    try:
        return tf_text.FastWordpieceTokenizer(
            tokens,
            max_bytes_per_word=_MAX_BYTES_PER_CHARACTER * MAX_CHARACTERS_PER_WORD,
            token_out_type=tf.int32,
            no_pretokenization=True,
        )
    except RuntimeError as error:
        raise UserError(f"{source}: TF Text refuses it: {error}") from error


def _can_match(token: str) -> bool:
    stem = token.removeprefix("##")
    return 0 < len(stem) <= MAX_CHARACTERS_PER_WORD and "\0" not in stem
