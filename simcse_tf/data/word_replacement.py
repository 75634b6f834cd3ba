"""Replacing words by what a masked language model predicts in their place."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf
from numpy.random import Generator

from simcse_tf.checkpoints.load import load_checkpoint
from simcse_tf.checkpoints.masked_lm_head import load_masked_lm_head
from simcse_tf.core.errors import UserError
from simcse_tf.encoders.families import encoder_of
from simcse_tf.encoders.keras_layers import configure_layers
from simcse_tf.objectives import masked_lm
from simcse_tf.tokenizers.bert import BertTokenizer

# A token with so low a logit is never drawn.
_NEVER = -1e9


class _Gap(NamedTuple):
    """A hidden word: its text, its place among the ids and words, its own ids."""

    row: int
    position: int
    word: int
    own_ids: list[int]


class WordReplacer:
    """Replaces a share of a sentence's words by a masked language model's.

    The words are masked all at once; each one's substitute is drawn from the
    predicted distribution, without the word itself, special tokens and
    continuations of words.

    Args:
        model: string. A local Hugging Face checkpoint of BERT with its masked
            language model, as a MODEL argument names it.
        rate: float. The probability that a word is replaced.

    Raises:
        UserError: If the model cannot be loaded or has no masked language model.

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), table 1, "MLM k%"

    Example:

    ```python
    replace = WordReplacer("models/bert-base-uncased", rate=0.15)
    replace(["A man plays the guitar."], [np.random.default_rng(0)])
    ```
    """

    def __init__(self, model: str, rate: float):
        checkpoint = load_checkpoint(model)
        if not isinstance(checkpoint.tokenizer, BertTokenizer):
            raise UserError(
                f"data.augmentation mlm: {model} has a "
                f"{type(checkpoint.tokenizer).__name__}; words are replaced by a model "
                "with BERT's WordPiece tokenizer: expected one in "
                "data.augmentation_model"
            )
        self.rate = rate
        self._tokenizer = checkpoint.tokenizer
        self._backbone = checkpoint.backbone
        configure_layers(
            self._backbone,
            checkpoint.settings.get("activation"),
            checkpoint.settings.get("layer_norm_epsilon"),
        )
        self._encoder = encoder_of(self._backbone)
        self._head = masked_lm.masked_lm_head(self._backbone, self._tokenizer)
        if not load_masked_lm_head(self._head, checkpoint.preset):
            raise UserError(
                f"data.augmentation mlm: {model} holds no masked language model; "
                "data.augmentation_model names a local Hugging Face directory with one "
                "(its tensors are cls.predictions...), such as bert-base-uncased's"
            )
        self._vocabulary = np.array(self._tokenizer.vocabulary, dtype=object)
        never = [_is_no_word(token) for token in self._tokenizer.vocabulary]
        self._bias = np.where(never, _NEVER, 0.0)
        self._logits = tf.function(self._compute_logits, reduce_retracing=True)

    def __call__(
        self, sentences: Sequence[str], generators: Sequence[Generator]
    ) -> list[str]:
        """Replaces words.

        Args:
            sentences: `n` texts.
            generators: `n` generators, one for each sentence.

        Returns:
            `n` texts, their words between single spaces.
        """
        rows = [sentence.split() for sentence in sentences]
        hidden = [
            rng.random(len(words)) < self.rate
            for words, rng in zip(rows, generators, strict=True)
        ]
        token_ids, gaps = self._masked(rows, hidden)
        if not gaps:
            return [" ".join(words) for words in rows]
        places = [(gap.row, gap.position) for gap in gaps]
        logits = self._logits(token_ids, tf.constant(places)).numpy() + self._bias
        for gap, scores in zip(gaps, logits, strict=True):
            if len(gap.own_ids) == 1:
                scores[gap.own_ids] = _NEVER
            # The largest of the sums with Gumbel noise is a draw from the softmax.
            noise = generators[gap.row].gumbel(size=len(scores))
            rows[gap.row][gap.word] = self._vocabulary[np.argmax(scores + noise)]
        return [" ".join(words) for words in rows]

    def _masked(
        self, rows: list[list[str]], hidden: list[np.ndarray]
    ) -> tuple[tf.RaggedTensor, list[_Gap]]:
        """The texts' ids with `[MASK]` for a hidden word, and where those stand."""
        tokenizer, limit = self._tokenizer, int(self._backbone.max_sequence_length)
        flat = [word for words in rows for word in words]
        pieces = iter(tokenizer(tf.constant(flat, tf.string), limit).to_list())
        gaps, token_ids = [], []
        for row, words_hidden in enumerate(hidden):
            ids = [tokenizer.cls_token_id]
            for word, is_hidden in enumerate(words_hidden):
                own_ids = next(pieces)[1:-1]
                if is_hidden and len(ids) < limit - 1:
                    gaps.append(_Gap(row, len(ids), word, own_ids))
                    ids.append(cast(int, tokenizer.mask_token_id))
                else:
                    ids.extend(own_ids)
            token_ids.append([*ids[: limit - 1], tokenizer.sep_token_id])
        return tf.ragged.constant(token_ids, tf.int32), gaps

    def _compute_logits(self, tokens: tf.RaggedTensor, places: tf.Tensor) -> Any:
        features = {
            "token_ids": tokens.to_tensor(self._tokenizer.pad_token_id),
            "padding_mask": tf.sequence_mask(tokens.row_lengths(), dtype=tf.int32),
        }
        [states] = self._encoder.hidden_states(self._encoder.weights(), features)
        at_gaps = tf.gather_nd(states, places)[None]
        return self._head(at_gaps, tf.range(tf.shape(places)[0])[None])[0]


def _is_no_word(token: str) -> bool:
    return token.startswith(("##", "[")) or not token.strip()
