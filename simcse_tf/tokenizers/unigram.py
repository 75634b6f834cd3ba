"""XLM-RoBERTa's tokenization, id for id, as TensorFlow operations."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.added_tokens import (
    AddedToken,
    added_tokens_of,
    tokenize_around,
)
from simcse_tf.tokenizers.base import Tokenizer
from simcse_tf.tokenizers.batch import batch_of, check_max_length, enclose
from simcse_tf.tokenizers.metaspace import (
    METASPACE,
    SPACES,
    Alphabet,
    normalize_spaces,
    split_words,
)
from simcse_tf.tokenizers.precompiled import PrecompiledNormalizer
from simcse_tf.tokenizers.ragged import first_of, first_of_rows, kept, merged, rows_of
from simcse_tf.tokenizers.sentencepiece_model import (
    FIRST_TOKENS,
    LAST_TOKEN,
    UnigramModel,
    file_scores,
    read_model,
    tail_of,
    write_model,
)
from simcse_tf.tokenizers.unigram_scores import checked_scores
from simcse_tf.tokenizers.unigram_windows import UnigramWindows
from simcse_tf.tokenizers.viterbi import Viterbi
from simcse_tf.tokenizers.vocabulary import required_id, unique_ids
from simcse_tf.tokenizers.windows import first_ids

_SPECIAL_TOKENS = (*FIRST_TOKENS, LAST_TOKEN)
# An unknown character is that much worse than the worst piece.
_UNKNOWN_PENALTY = 10.0


class XLMRobertaTokenizer(Tokenizer):
    """Splits raw text into XLM-RoBERTa's Unigram ids, with `<s>` and `</s>`.

    The ids are those of the `tokenizers` package (`Precompiled`, `WhitespaceSplit`,
    `Metaspace`, `Unigram`) for every string; bytes that are not UTF-8 count as U+FFFD.
    They differ from the `sentencepiece` package's, as that package normalizes otherwise
    and sums in float32. The tokenizer consists of plain TensorFlow ops, so it runs
    eagerly, in `tf.data`, in a `tf.function` and in a SavedModel. It keeps nothing of
    the texts, and takes time in proportion to their length.

    A special token in the text is plain text, unless it is among the `added_tokens`.

    Args:
        vocabulary: sequence of strings. The tokens. A token's position is its id.
        scores: sequence of float. The logarithms of their probabilities. Tokens that
            have none because `scores` is shorter occur as added tokens only.
        charsmap: string or `None`. The precompiled normalizer of a SentencePiece
            model, in base64. Defaults to `None`, no normalization.
        spaces: string. What becomes of white space; the name of a pipeline of
            `tokenizers`. `"split"`: `WhitespaceSplit`, `Metaspace`. `"merge"`: several
            spaces are replaced by one, `Metaspace`. `"strip"`: `Strip` on the right,
            several spaces are replaced by U+2581, `Metaspace`. `"keep"`: `Metaspace`
            alone. Defaults to `"split"`.
        added_tokens: sequence of `AddedToken`, or of their form in JSON. What is a
            token of its own wherever it stands in a text. Defaults to `()`.

    Raises:
        UserError: If the vocabulary lacks one of `<s>`, `<pad>`, `</s>` and `<unk>` or
            has a token twice, if scores, charsmap or an added token are not valid, or
            if `spaces` has no such name.

    Example:

    ```python
    tokenizer = XLMRobertaTokenizer(
        ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁he", "llo"],
        [0.0, 0.0, 0.0, 0.0, -3.0, -2.0, -2.5],
    )
    tokenizer(["hello hehe", ""], max_length=32)
    # <tf.RaggedTensor [[0, 5, 6, 5, 3, 2], [0, 2]]>
    ```

    Reference:
        - [Kudo 2018](https://arxiv.org/abs/1804.10959), the Unigram model
        - [Conneau et al. 2020](https://arxiv.org/abs/1911.02116)
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        scores: Sequence[float],
        charsmap: str | None = None,
        spaces: str = "split",
        added_tokens: Sequence[AddedToken | dict[str, Any]] = (),
    ):
        self.vocabulary = list(vocabulary)
        self.added_tokens = added_tokens_of(added_tokens, len(self.vocabulary))
        self.charsmap = charsmap or None
        self.spaces = spaces
        if spaces not in SPACES:
            raise UserError(
                f"spaces: expected one of {', '.join(SPACES)}; received {spaces!r}"
            )
        self._spaces = SPACES[spaces]

        ids = unique_ids(self.vocabulary)
        if "" in ids:
            raise UserError("vocabulary: expected tokens that are not empty")
        self.pad_token_id = required_id("<pad>", ids, "XLM-RoBERTa")
        self.unk_token_id = required_id("<unk>", ids, "XLM-RoBERTa")
        self.cls_token_id = required_id("<s>", ids, "XLM-RoBERTa")
        self.sep_token_id = required_id("</s>", ids, "XLM-RoBERTa")
        self.mask_token_id = ids.get("<mask>")
        self.scores = checked_scores(scores, len(self.vocabulary), self.unk_token_id)

        piece_ids = [*filter(self._can_match, range(len(self.scores)))]
        pieces = [self.vocabulary[index] for index in piece_ids]
        self._alphabet = Alphabet(set().union(*pieces))
        symbols = self._alphabet.symbols
        unknown_score = min(self.scores) - _UNKNOWN_PENALTY
        self._viterbi = Viterbi(
            [np.array([symbols[c] for c in piece], np.int32) for piece in pieces],
            [self.scores[index] for index in piece_ids],
            unknown_score,
            self._alphabet.size,
        )
        self._normalizer = self.charsmap and PrecompiledNormalizer(
            _bytes(self.charsmap)
        )
        self._windows = UnigramWindows(
            self._normalizer,
            self._alphabet,
            self._spaces,
            [*self.scores, unknown_score],
            lambda texts, complete: self._segment(
                self._normalize_spaces(texts), None, complete
            ),
        )
        with tf.init_scope(), tf.device("CPU"):
            # The Viterbi algorithm's -1, an unknown character, comes first.
            self._ids = tf.constant([self.unk_token_id, *piece_ids], tf.int32)

    def __call__(self, text: Any, max_length: int) -> tf.RaggedTensor:
        """Tokenizes a batch of texts.

        Args:
            text: String tensor of shape `[n]`, or what converts to one.
            max_length: int, at least 2. The most ids in a row, `<s>` and `</s>`
                included; what does not fit is cut before `</s>`.

        Returns:
            `tf.RaggedTensor` of dtype int32 and shape `[n, None]`: in each row
            `<s>`, the text's ids, `</s>`.

        Raises:
            UserError: If `max_length` is not an int of at least 2, or `text`
                does not have one dimension.
        """
        check_max_length(max_length, "<s>", "</s>")
        return self._tokenize(batch_of(text), max_length)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, without the vocabulary."""
        return {
            "scores": self.scores,
            "charsmap": self.charsmap,
            "spaces": self.spaces,
            "added_tokens": [token._asdict() for token in self.added_tokens],
        }

    def settings(self) -> dict[str, Any]:
        """Returns what KerasHub's files do not hold: settings, and a `"tail"`.

        The tail is of the tokens behind `<mask>`, if there are any.
        """
        settings = self.get_config()
        del settings["charsmap"]
        tail = tail_of(self.vocabulary)
        if tail:
            settings["tail"] = tail
        last = len(self.vocabulary) - len(tail) - 1
        pieces = self.scores[len(FIRST_TOKENS) : last]
        # Scores that SentencePiece has trained are float32.
        if file_scores(pieces) == self.scores:
            del settings["scores"]
        return settings

    @classmethod
    def from_sentencepiece(
        cls, file: bytes, tail: Sequence[str] = (), **settings: Any
    ) -> "XLMRobertaTokenizer":
        """Takes vocabulary, scores and normalization from a SentencePiece model.

        Args:
            file: bytes. What stands in `sentencepiece.bpe.model`.
            tail: sequence of strings. Tokens to put behind `<mask>`. Defaults to none.
            **settings: Further arguments of the constructor.

        Raises:
            UserError: If it is no model that XLM-RoBERTa can have.
        """
        model = read_model(file)
        charsmap = base64.b64encode(model.charsmap).decode() or None
        config = {"scores": model.scores, "charsmap": charsmap, **settings}
        return cls([*model.vocabulary, *tail], **config)

    @classmethod
    def from_keras_hub(cls, tokenizer: Any, **settings: Any) -> "XLMRobertaTokenizer":
        """Takes vocabulary and settings over from KerasHub's tokenizer.

        Args:
            tokenizer: A `keras_hub.models.XLMRobertaTokenizer`.
            **settings: What `settings()` gave, if anything.
        """
        return cls.from_sentencepiece(tokenizer.proto, **settings)

    def to_keras_hub(self) -> Any:
        """Returns a `keras_hub.models.XLMRobertaTokenizer`, which has a file format.

        Raises:
            UserError: If the model has no form as a file of SentencePiece.
        """
        import keras_hub

        return keras_hub.models.XLMRobertaTokenizer(proto=self.to_sentencepiece())

    def to_sentencepiece(self) -> bytes:
        """Returns what `sentencepiece.bpe.model` holds: the file of a model.

        The tokens behind `<mask>` are not in it.

        Raises:
            UserError: If the vocabulary lacks the special tokens in their places, or a
                token between them has no score.
        """
        charsmap = _bytes(self.charsmap) if self.charsmap else b""
        return write_model(UnigramModel(self.vocabulary, self.scores, charsmap))

    def _can_match(self, index: int) -> bool:
        """Whether a token occurs in words. Those that cannot need no search."""
        token = self.vocabulary[index]
        if token in _SPECIAL_TOKENS:
            return any(token == added.content for added in self.added_tokens)
        return METASPACE not in token[1:] and " " not in token

    # Compiled once, for all callers: run op by op they would take about 100 ms.
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
                lambda texts: self._plain(texts, room),
                self._normalize_strings,
                lambda texts: self._segment_strings(texts, room),
                room=room,
            )
            return enclose(first_of(ids, room), self.cls_token_id, self.sep_token_id)

    # Functions of their own, because each stands in several branches of `_tokenize`.
    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)],
        autograph=False,
    )
    def _plain(self, text: tf.Tensor, room: tf.Tensor) -> tf.RaggedTensor:
        """The ids of texts without added tokens; of long ones, at least the first."""

        def whole(text: tf.Tensor) -> tf.RaggedTensor:
            return self._segment(self._normalize(_decode(text)), room)

        state = self._windows.begin(text)
        return first_ids(text, room, whole, self._windows.step, state)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    def _normalize_strings(self, text: tf.Tensor) -> tf.Tensor:
        return _encode(self._normalize(_decode(text)))

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)],
        autograph=False,
    )
    def _segment_strings(self, text: tf.Tensor, room: tf.Tensor) -> tf.RaggedTensor:
        return self._segment(_decode(text), room)

    def _normalize(self, points: tf.RaggedTensor) -> tf.RaggedTensor:
        if self._normalizer:
            points = self._normalizer(points)
        return self._normalize_spaces(points)

    def _normalize_spaces(self, points: tf.RaggedTensor) -> tf.RaggedTensor:
        return normalize_spaces(points, self._alphabet(points.values), self._spaces)

    def _segment(
        self,
        points: tf.RaggedTensor,
        room: tf.Tensor | None,
        complete: tf.Tensor | None = None,
    ) -> tf.RaggedTensor:
        """The ids of normalized texts; of long ones, at least the first.

        Only the first `complete` texts are. The last word of any other may go on, and
        has the ids that it then has in any case.
        """
        symbols = points.with_values(self._alphabet(points.values))
        words = split_words(symbols, self._spaces)
        # The numbers of each text's words.
        numbers = words.with_values(tf.range(words.values.nrows()))
        words = words.values
        if room is not None:
            # A word has at least one id.
            numbers = first_of(numbers, room)
            words = tf.gather(words, numbers.values)
        is_open = None
        if complete is not None:
            row = rows_of(numbers)
            is_last = numbers.values == tf.gather(numbers.row_limits(), row) - 1
            is_open = is_last & (row >= complete)
        pieces = self._viterbi(words, is_open)
        ids = pieces.with_values(tf.gather(self._ids, pieces.values + 1))
        # Unknown characters that follow each other in a word are one unknown token.
        is_unknown = ids.values == self.unk_token_id
        follows = is_unknown & tf.roll(is_unknown, 1, axis=0) & ~first_of_rows(ids)
        return merged(numbers, kept(ids, ~follows))


def _decode(text: tf.Tensor) -> tf.RaggedTensor:
    return tf.strings.unicode_decode(text, "UTF-8")


def _encode(points: tf.RaggedTensor) -> tf.Tensor:
    return tf.strings.unicode_encode(points, "UTF-8")


def _bytes(charsmap: str) -> bytes:
    try:
        return base64.b64decode(charsmap, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise UserError(
            f"charsmap: expected base64; received {str(charsmap)[:40]!r}"
        ) from None
