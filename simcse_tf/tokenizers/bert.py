"""BERT's tokenization, id for id, as TensorFlow operations."""

import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.added_tokens import (
    AddedToken,
    added_tokens_of,
    tokenize_around,
)
from simcse_tf.tokenizers.base import Tokenizer
from simcse_tf.tokenizers.batch import batch_of, check_max_length, enclose
from simcse_tf.tokenizers.bert_normalizer import (
    MAX_CHARACTERS_PER_WORD,
    BertNormalizer,
)
from simcse_tf.tokenizers.ragged import first_of, merged
from simcse_tf.tokenizers.windows import State, first_ids
from simcse_tf.tokenizers.wordpiece_vocabulary import (
    read_vocabulary,
    unique_ids,
    write_vocabulary,
)

_MAX_BYTES_PER_CHARACTER = 4


class BertTokenizer(Tokenizer):
    """Splits raw text into BERT's WordPiece ids, with `[CLS]` and `[SEP]`.

    The ids are those of the `tokenizers` package (`BertNormalizer`,
    `BertPreTokenizer`, `WordPiece`) for every string: bytes that are not UTF-8
    count as U+FFFD, a word of more than 100 characters is `[UNK]`, and a special
    token in the text is plain text, unless it is an added token. The tokenizer consists
    of TensorFlow and TF Text ops, so it runs eagerly, in `tf.data`, in a `tf.function`
    and in a SavedModel. The process's locale and the Unicode versions of those
    libraries do not matter.

    Each code point is looked up in one table. The words that come out go through
    TF Text's linear-time WordPiece.

    Args:
        vocabulary: string or a sequence of strings. Path of a `vocab.txt` with one
            token a line, or the tokens. A token's position is its id.
        lowercase: bool. Whether to lower-case the text. Defaults to `True`.
        strip_accents: bool or `None`. Whether to remove accents. `None` is the
            same as `lowercase`, as in BERT. Defaults to `None`.
        handle_chinese_chars: bool. Whether a Chinese character is a word of its own.
            Defaults to `True`.
        added_tokens: Sequence of `AddedToken`, or of their form in JSON. Tokens that
            are found in the text itself. Defaults to `()`.

    Raises:
        UserError: If the vocabulary cannot be read, lacks one of `[PAD]`, `[UNK]`,
            `[CLS]` and `[SEP]`, or has a token twice, or an added token is not valid.

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
        handle_chinese_chars: bool = True,
        added_tokens: Sequence[AddedToken | dict[str, Any]] = (),
    ):
        if isinstance(vocabulary, str | os.PathLike):
            source = f"vocabulary {os.fspath(vocabulary)}"
            self.vocabulary = read_vocabulary(vocabulary)
        else:
            source = "vocabulary"
            self.vocabulary = list(vocabulary)
        self.lowercase = bool(lowercase)
        self.strip_accents = bool(lowercase if strip_accents is None else strip_accents)
        self.handle_chinese_chars = bool(handle_chinese_chars)
        self.added_tokens = added_tokens_of(added_tokens, len(self.vocabulary))

        ids = unique_ids(self.vocabulary, source)
        self.pad_token_id = _required_id("[PAD]", ids, source)
        self.unk_token_id = _required_id("[UNK]", ids, source)
        self.cls_token_id = _required_id("[CLS]", ids, source)
        self.sep_token_id = _required_id("[SEP]", ids, source)
        self.mask_token_id = ids.get("[MASK]")

        self._normalizer = BertNormalizer(
            self.lowercase, self.strip_accents, self.handle_chinese_chars
        )
        # Splits words alone, for what is normalized already.
        self._splitter = BertNormalizer(False, False, False)
        with tf.init_scope(), tf.device("CPU"):
            self._wordpiece = _wordpiece(self.vocabulary, source)

    def normalize(self, text: Any) -> tf.Tensor:
        """Cleans, lower-cases and strips text as BERT does before it splits words.

        Args:
            text: String tensor of shape `[n]`, or what converts to one.

        Returns:
            String tensor of shape `[n]`, in UTF-8.

        Raises:
            UserError: If `text` does not have one dimension.
        """
        return self._normalize(batch_of(text))

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
                does not have one dimension.
        """
        check_max_length(max_length, "[CLS]", "[SEP]")
        return self._tokenize(batch_of(text), max_length)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, without the vocabulary."""
        return {"lowercase": self.lowercase, **self.settings()}

    def settings(self) -> dict[str, Any]:
        """Returns the part of `get_config()` that KerasHub's files do not hold."""
        return {
            "strip_accents": self.strip_accents,
            "handle_chinese_chars": self.handle_chinese_chars,
            "added_tokens": [token._asdict() for token in self.added_tokens],
        }

    @classmethod
    def from_keras_hub(cls, tokenizer: Any, **settings: Any) -> "BertTokenizer":
        """Takes vocabulary and settings over from KerasHub's tokenizer.

        Args:
            tokenizer: A `keras_hub.tokenizers.WordPieceTokenizer`.
            **settings: What `settings()` gave. Where they are missing, KerasHub's own
                setting counts, but one that strips no accents: KerasHub leaves it off
                for Hugging Face checkpoints, where it follows the letter case.
        """
        known = {
            "lowercase": tokenizer.lowercase,
            "strip_accents": tokenizer.strip_accents or None,
        }
        return cls(tokenizer.get_vocabulary(), **(known | settings))

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
        write_vocabulary(self.vocabulary, path)

    # Compiled once, for all callers: run op by op they would take about 20 ms.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def _normalize(self, text: tf.Tensor) -> tf.Tensor:
        with tf.device("CPU"):
            return self._normalizer.normalize(text)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)],
        autograph=False,
    )
    def _tokenize(self, text: tf.Tensor, max_length: tf.Tensor) -> tf.RaggedTensor:
        with tf.device("CPU"):
            room = max_length - 2
            ids = tokenize_around(
                text,
                self.added_tokens,
                lambda pieces: self._first_ids(pieces, room, self._normalizer),
                self._normalizer.normalize,
                lambda pieces: self._first_ids(pieces, room, self._splitter),
                room=room,
            )
            return enclose(first_of(ids, room), self.cls_token_id, self.sep_token_id)

    def _first_ids(
        self, text: tf.Tensor, room: tf.Tensor, normalizer: BertNormalizer
    ) -> tf.RaggedTensor:
        """The ids of texts without added tokens; of long ones, at least the first."""

        def whole(text: tf.Tensor) -> tf.RaggedTensor:
            return self._ids(normalizer.words(text))

        def step(
            state: State, window: tf.Tensor, is_last: tf.Tensor, room: tf.Tensor
        ) -> tuple[tf.RaggedTensor, State]:
            # White space leaves nothing behind but the end of a word.
            shorter = tf.strings.regex_replace(window, "[ \t\n\r]{2,}", " ")
            joined = tf.strings.join([*state, shorter])
            words, rest = normalizer.split(joined)
            return whole(tf.where(is_last, joined, words)), (rest,)

        return first_ids(text, room, whole, step, (tf.fill(tf.shape(text), ""),))

    def _ids(self, words: tf.RaggedTensor) -> tf.RaggedTensor:
        known = _without_long_words(words.values)
        return merged(words, self._wordpiece.tokenize(known))


def _without_long_words(words: tf.Tensor) -> tf.Tensor:
    lengths = tf.strings.length(words, unit="UTF8_CHAR")
    return tf.where(lengths > MAX_CHARACTERS_PER_WORD, "[UNK]", words)


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
