"""RoBERTa's tokenization, id for id, as TensorFlow operations."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers import byte_pair_model
from simcse_tf.tokenizers.added_tokens import (
    AddedToken,
    added_tokens_of,
    tokenize_around,
)
from simcse_tf.tokenizers.base import Tokenizer
from simcse_tf.tokenizers.batch import batch_of, check_max_length, enclose
from simcse_tf.tokenizers.byte_level_words import WordSplitter
from simcse_tf.tokenizers.byte_pair_prefix import SurePieces
from simcse_tf.tokenizers.ragged import first_of, merged, side_by_side
from simcse_tf.tokenizers.vocabulary import required_id, unique_ids
from simcse_tf.tokenizers.windows import State, first_ids


class RobertaTokenizer(Tokenizer):
    """Splits raw text into RoBERTa's byte-level BPE ids, with `<s>` and `</s>`.

    The ids are those of the `tokenizers` package (`ByteLevel` with its regular
    expression, `BPE`) for every string; bytes that are not UTF-8 count as U+FFFD. The
    tokenizer consists of TensorFlow and TF Text ops, so it runs eagerly, in `tf.data`,
    in a `tf.function` and in a SavedModel. It keeps nothing of the texts, and takes
    time in proportion to their length.

    TF Text's SentencePiece, which has a BPE of its own, merges the bytes of each
    distinct word; `tokenizers/byte_pair_model.py` says why the result is the same.

    Args:
        vocabulary: sequence of strings. The tokens, in which a character stands for
            each byte (`Ġ` for a space). A token's position is its id. A byte without a
            token vanishes from the text, as in the reference.
        merges: sequence of strings. Two tokens with a space between them; the first is
            merged first.
        add_prefix_space: bool. Whether a text that begins with no space gets one.
            Defaults to `False`.
        added_tokens: sequence of `AddedToken`. What is a token of its own wherever it
            stands in a text. Defaults to none: `<mask>` in a text is plain text.

    Raises:
        UserError: If the vocabulary lacks one of `<s>`, `<pad>` and `</s>` or has a
            token twice, or if a merge is not of two tokens that give a third.

    Example:

    ```python
    tokenizer = RobertaTokenizer(
        ["<s>", "<pad>", "</s>", "a", "t", "Ġ", "at", "Ġat"], ["a t", "Ġ at"]
    )
    tokenizer(["at at", ""], max_length=32)
    # <tf.RaggedTensor [[0, 6, 7, 2], [0, 2]]>
    ```

    Reference:
        - [Radford et al. 2019](https://github.com/openai/gpt-2), the byte-level BPE
        - [Liu et al. 2019](https://arxiv.org/abs/1907.11692)
        - [Sennrich et al. 2016](https://arxiv.org/abs/1508.07909)
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        merges: Sequence[str],
        add_prefix_space: bool = False,
        added_tokens: Sequence[AddedToken | dict[str, Any]] = (),
    ):
        self.vocabulary = list(vocabulary)
        self.merges = list(merges)
        self.add_prefix_space = bool(add_prefix_space)
        self.added_tokens = added_tokens_of(added_tokens, len(self.vocabulary))

        ids = unique_ids(self.vocabulary)
        self.pad_token_id = required_id("<pad>", ids, "RoBERTa")
        self.cls_token_id = required_id("<s>", ids, "RoBERTa")
        self.sep_token_id = required_id("</s>", ids, "RoBERTa")
        self.mask_token_id = ids.get("<mask>")

        pairs = [_pair(index, merge, ids) for index, merge in enumerate(self.merges)]
        self._model, pieces = byte_pair_model.sentencepiece_model(ids, pairs)
        # A word has at least one token, unless some bytes have none.
        self._has_all_bytes = ids.keys() >= {
            *byte_pair_model.byte_characters().values()
        }
        self._sure_pieces = SurePieces([*map(len, pieces)])
        self._split = WordSplitter()
        with tf.init_scope(), tf.device("CPU"):
            self._ids = tf.constant([ids.get(piece, 0) for piece in pieces], tf.int32)

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
            "merges": self.merges,
            "add_prefix_space": self.add_prefix_space,
            **self.settings(),
        }

    def settings(self) -> dict[str, Any]:
        """Returns the part of `get_config()` that KerasHub's files do not hold."""
        return {"added_tokens": [token._asdict() for token in self.added_tokens]}

    @classmethod
    def from_keras_hub(cls, tokenizer: Any, **settings: Any) -> "RobertaTokenizer":
        """Takes vocabulary and settings over from KerasHub's tokenizer.

        Args:
            tokenizer: A `keras_hub.tokenizers.BytePairTokenizer`.
            **settings: What `settings()` gave, if anything.
        """
        return cls(
            tokens_by_id(tokenizer.vocabulary),
            # KerasHub reads the first line of a merges.txt as a merge, and skips it.
            [merge for merge in tokenizer.merges if "#version:" not in merge],
            add_prefix_space=tokenizer.add_prefix_space,
            **settings,
        )

    def to_keras_hub(self) -> Any:
        """Returns a `keras_hub.models.RobertaTokenizer`, which knows the file format.

        Raises:
            UserError: If the vocabulary lacks `<mask>`.
        """
        import keras_hub

        if self.mask_token_id is None:
            raise UserError(
                "vocabulary: no <mask> in it; KerasHub's files of a RoBERTa need it"
            )
        return keras_hub.models.RobertaTokenizer(
            vocabulary={token: index for index, token in enumerate(self.vocabulary)},
            merges=self.merges,
            add_prefix_space=self.add_prefix_space,
        )

    # Compiled once, for all callers: run op by op they would take about 20 ms.
    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)],
        autograph=False,
    )
    def _tokenize(self, text: tf.Tensor, max_length: tf.Tensor) -> tf.RaggedTensor:
        with tf.device("CPU"):
            # Within the function: what is made outside of it vanishes with
            # `keras.utils.clear_session()`.
            bpe = tf_text.SentencepieceTokenizer(self._model)
            room = max_length - 2
            ids = tokenize_around(
                text,
                self.added_tokens,
                lambda texts: self._plain(texts, bpe, room),
                room=room,
            )
            return enclose(first_of(ids, room), self.cls_token_id, self.sep_token_id)

    def _plain(
        self, text: tf.Tensor, bpe: tf_text.SentencepieceTokenizer, room: tf.Tensor
    ) -> tf.RaggedTensor:
        """The ids of texts without added tokens; of long ones, at least the first."""
        prefix = tf.fill(tf.shape(text), "")
        if self.add_prefix_space:
            bare = (tf.strings.substr(text, 0, 1) != " ") & (text != "")
            prefix = tf.where(bare, " ", prefix)

        def whole(text: tf.Tensor) -> tf.RaggedTensor:
            if self.add_prefix_space:
                text = tf.strings.join([prefix, text])
            words = self._split(text)
            if self._has_all_bytes:
                words = first_of(words, room)
            return self._ids_of(words, bpe)

        def step(
            state: State, window: tf.Tensor, is_last: tf.Tensor, room: tf.Tensor
        ) -> tuple[tf.RaggedTensor, State]:
            joined = tf.strings.join([*state, window])
            words, rest, begun = self._split.closed_words(joined, is_last)
            ids = self._ids_of(words, bpe)
            if self._has_all_bytes:
                left = room - tf.cast(ids.row_lengths(), tf.int32)
                pieces = self._sure_pieces(begun, bpe.tokenize, left)
                more = pieces.with_values(tf.gather(self._ids, pieces.values))
                ids = side_by_side(ids, more)
            return ids, (rest,)

        return first_ids(text, room, whole, step, (prefix,))

    def _ids_of(
        self, words: tf.RaggedTensor, bpe: tf_text.SentencepieceTokenizer
    ) -> tf.RaggedTensor:
        distinct, index = tf.unique(words.values, tf.int64)
        pieces = tf.gather(bpe.tokenize(distinct), index)
        ids = pieces.with_values(tf.gather(self._ids, pieces.values))
        return merged(words, ids)


def tokens_by_id(ids: Mapping[str, int]) -> list[str]:
    """Puts the tokens of a `vocab.json` in the order of their ids.

    Args:
        ids: Mapping from string to int. The tokens and their ids.

    Returns:
        list of string. An id without a token gets a name that no text gives.

    Raises:
        UserError: If two tokens have one id, or an id is negative.

    Example:

    ```python
    tokens_by_id({"<pad>": 1, "<s>": 0})  # ["<s>", "<pad>"]
    ```
    """
    tokens = {index: token for token, index in ids.items()}
    if len(tokens) < len(ids) or min(tokens, default=0) < 0:
        raise UserError(
            "vocabulary: expected an id of its own, not below 0, for each token; "
            f"received {len(ids)} tokens with {len(tokens)} ids from "
            f"{min(tokens, default=0)}"
        )
    return [
        tokens.get(index, f"<id {index}>")
        for index in range(max(tokens, default=-1) + 1)
    ]


def _pair(index: int, merge: str, ids: dict[str, int]) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else []
    if len(parts) != 2 or not all(parts):
        raise UserError(
            f"merges: expected two tokens with a space between them at {index}; "
            f"received {merge!r}"
        )
    left, right = parts
    for token in (left, right, left + right):
        if token not in ids:
            raise UserError(
                f"merges: expected tokens of the vocabulary; {token!r} of the merge "
                f"{merge!r} at {index} is none"
            )
    return left, right
