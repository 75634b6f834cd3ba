"""BERT's masked language model: the objective that SimCSE can train beside its own."""

from collections.abc import Sequence
from typing import Any

import keras
import keras_hub
import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.bert import BertTokenizer

# Of the tokens to be predicted, BERT replaces most by [MASK], some by a random
# token, and leaves the rest as they are.
MASKED, RANDOM = 0.8, 0.1
NOT_PREDICTED = -1


def masked_lm_head(
    backbone: keras_hub.models.Backbone, tokenizer: BertTokenizer
) -> keras_hub.layers.MaskedLMHead:
    """A fresh head that predicts tokens from a BERT's states.

    Args:
        backbone: The BERT, whose token embedding the head shares.
        tokenizer: The backbone's.

    Raises:
        UserError: If the vocabulary has no `[MASK]`.
    """
    if tokenizer.mask_token_id is None:
        raise UserError("the masked language model needs a [MASK] in the vocabulary")
    head = keras_hub.layers.MaskedLMHead(
        token_embedding=backbone.token_embedding,
        intermediate_activation="gelu",
        layer_norm_epsilon=1e-12,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
        dtype=backbone.dtype_policy,
        name="masked_lm_head",
    )
    head.build((None, None, backbone.token_embedding.output_dim))
    return head


def mask_tokens(
    token_ids: tf.Tensor,
    seed: tf.Tensor,
    *,
    probability: float,
    mask_token_id: int,
    special_token_ids: Sequence[int],
    vocabulary_size: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Hides tokens as BERT's pre-training does.

    Args:
        token_ids: int32 tensor of shape `(n, length)`.
        seed: int32 tensor of shape `(2,)`; decides all that is random.
        probability: float. With which a token is to be predicted.
        mask_token_id: int. `[MASK]`'s.
        special_token_ids: Sequence of int. Tokens that are never to be predicted:
            `[CLS]`, `[SEP]` and the padding.
        vocabulary_size: int. Random tokens are drawn from all of it.

    Returns:
        Tuple `(token_ids, labels)` of int32 tensors of shape `(n, length)`: what
        the encoder is to read, and the token that was there where it is to be
        predicted, else `NOT_PREDICTED`.

    Reference:
        - [Devlin et al. 2019](https://arxiv.org/abs/1810.04805), section 3.1
    """
    chosen_seed, kind_seed, token_seed = tf.unstack(tf.random.split(seed, 3))
    shape = tf.shape(token_ids)
    special = tf.reduce_any(
        token_ids[..., None] == tf.constant(special_token_ids, tf.int32), axis=-1
    )
    chosen = tf.random.stateless_uniform(shape, chosen_seed) < probability
    chosen &= ~special
    kind = tf.random.stateless_uniform(shape, kind_seed)
    random_ids = tf.random.stateless_uniform(
        shape, token_seed, 0, vocabulary_size, dtype=tf.int32
    )
    replacement = tf.where(kind < MASKED, mask_token_id, random_ids)
    replaced = chosen & (kind < MASKED + RANDOM)
    return (
        tf.where(replaced, replacement, token_ids),
        tf.where(chosen, token_ids, NOT_PREDICTED),
    )


def masked_lm_loss(head: Any, states: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The cross-entropy of the hidden tokens, summed.

    Args:
        head: A `keras_hub.layers.MaskedLMHead`.
        states: Floating tensor of shape `(n, length, dim)`, the encoder's output.
        labels: As `mask_tokens` returns them.

    Returns:
        float32 scalar.
    """
    dim = states.shape[-1]
    labels = tf.reshape(labels, (-1,))
    positions = tf.where(labels != NOT_PREDICTED)[:, 0]
    # The head gathers within a row: all tokens make one row, as rows hide different
    # numbers of them.
    logits = head(tf.reshape(states, (1, -1, dim)), positions[None])[0]
    losses = keras.losses.sparse_categorical_crossentropy(
        tf.gather(labels, positions), tf.cast(logits, tf.float32), from_logits=True
    )
    return tf.reduce_sum(losses)
