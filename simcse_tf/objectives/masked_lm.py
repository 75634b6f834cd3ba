"""The masked language model: the objective that SimCSE can train beside its own."""

from collections.abc import Sequence
from typing import Any, cast

import keras
import keras_hub
import tensorflow as tf

from simcse_tf.checkpoints.masked_lm_head import load_masked_lm_head
from simcse_tf.core.errors import UserError
from simcse_tf.distributed import collectives
from simcse_tf.encoders.families import encoder_of
from simcse_tf.encoders.keras_layers import parts_of, transformer_layers
from simcse_tf.objectives.base import Objective, Targets, TokenLoss, Trainable
from simcse_tf.objectives.defaults import MLM_PROBABILITY
from simcse_tf.objectives.views import Views, as_one_batch, micro_batch
from simcse_tf.tokenizers.base import Tokenizer

# BERT replaces most of the tokens to be predicted by [MASK], some by a random token,
# and keeps the rest.
MASKED, RANDOM = 0.8, 0.1
NOT_PREDICTED = -1


@keras.saving.register_keras_serializable("simcse_tf")
class MaskedLM(Objective):
    """Predicts hidden tokens, to be added to the contrastive objective.

    The loss is the mean over the tokens that are hidden on all replicas, times the
    weight. The head comes from a local Hugging Face checkpoint that has one, else it
    is fresh. A saved preset leaves it out. XLA cannot compile this objective: how many
    tokens are hidden depends on the data.

    Args:
        weight: float. Weight of the loss.
        probability: float. The probability with which a token is hidden. Defaults to
            `0.15`.

    Example:

    ```python
    model.compile("adam", objective=Contrastive() + MaskedLM(weight=0.1))
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), appendix D
        - [Devlin et al. 2019](https://arxiv.org/abs/1810.04805), section 3.1
    """

    static_shapes = False

    def __init__(self, weight: float, probability: float = MLM_PROBABILITY):
        self.weight = weight
        self.probability = probability

    def build(self, model: Trainable) -> None:
        self._tokenizer = model.tokenizer
        self.head = masked_lm_head(model.backbone, model.tokenizer)
        if model.preset is not None:
            load_masked_lm_head(self.head, model.preset)
        self._encoder = encoder_of(model.backbone, static_shapes=model.static_shapes)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        return [self.head]

    def embedding_loss(self, embeddings: tf.Tensor, targets: Targets) -> tf.Tensor:
        return tf.zeros(())

    def token_loss(
        self, views: Views, rows: Any, seeds: Sequence[tf.Tensor]
    ) -> TokenLoss:
        masking_seed, dropout_seed = seeds
        token_ids, labels = self._hide(views, masking_seed)
        masked = {**views, "token_ids": token_ids}
        hidden = tf.math.count_nonzero(labels != NOT_PREDICTED, dtype=tf.float32)
        # The mean over the tokens hidden on all replicas, as on one device.
        hidden = tf.maximum(collectives.mean_over_replicas(hidden), 1.0)

        def loss(index: Any) -> tf.Tensor:
            part, part_labels = micro_batch((masked, labels), index, rows)
            seed = tf.random.fold_in(dropout_seed, index)
            [hidden_states] = self._encoder.hidden_states(
                self._encoder.weights(), as_one_batch(part), seed
            )
            total = masked_lm_loss(self.head, hidden_states, part_labels)
            return self.weight * total / hidden

        return loss

    def logs(self, token_loss: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"mlm_loss": collectives.mean_over_replicas(token_loss / self.weight)}

    def get_config(self) -> dict[str, Any]:
        return {"weight": self.weight, "probability": self.probability}

    def _hide(self, views: Views, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        tokenizer = self._tokenizer
        token_ids, labels = mask_tokens(
            views["token_ids"],
            seed,
            probability=self.probability,
            mask_token_id=cast(int, tokenizer.mask_token_id),
            special_token_ids=tokenizer.special_token_ids,
            vocabulary_size=tokenizer.vocabulary_size,
        )
        is_token = views["padding_mask"] > 0
        return (
            tf.where(is_token, token_ids, views["token_ids"]),
            tf.where(is_token, labels, NOT_PREDICTED),
        )


def masked_lm_head(
    backbone: keras_hub.models.Backbone, tokenizer: Tokenizer
) -> keras_hub.layers.MaskedLMHead:
    """A fresh head that predicts tokens from a backbone's hidden states.

    Args:
        backbone: The backbone, whose token embedding the head shares.
        tokenizer: The backbone's.

    Raises:
        UserError: If the vocabulary has no token for what is hidden.

    Example:

    ```python
    head = masked_lm_head(model.backbone, model.tokenizer)
    ```
    """
    if tokenizer.mask_token_id is None:
        raise UserError(
            "the masked language model needs a mask token in the vocabulary"
        )
    head = keras_hub.layers.MaskedLMHead(
        token_embedding=backbone.token_embedding,
        intermediate_activation=_head_activation(backbone),
        layer_norm_epsilon=backbone.embeddings_layer_norm.epsilon,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
        dtype=backbone.dtype_policy,
        name="masked_lm_head",
    )
    head.build((None, None, backbone.token_embedding.output_dim))
    return head


def _head_activation(backbone: keras_hub.models.Backbone) -> Any:
    # RoBERTa's head has exact GELU, the others' that of the layers.
    if isinstance(backbone, keras_hub.models.RobertaBackbone):
        return "gelu"
    return parts_of(transformer_layers(backbone)[0]).intermediate.activation


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
        token_ids: int32 tensor of any shape, such as `(n, length)`.
        seed: int32 tensor of shape `(2,)`. It decides all that is random.
        probability: float. The probability with which a token is to be predicted.
        mask_token_id: int. The id of `[MASK]`.
        special_token_ids: Sequence of int. Tokens that are never to be predicted:
            `[CLS]`, `[SEP]` and the padding.
        vocabulary_size: int. Random tokens are drawn from all of it.

    Returns:
        Tuple `(token_ids, labels)` of int32 tensors of the same shape: what
        the encoder is to read, and the token that was there where it is to be
        predicted, else `NOT_PREDICTED`.

    Example:

    ```python
    token_ids, labels = mask_tokens(
        ids, tf.constant([1, 2]), probability=0.15, mask_token_id=103,
        special_token_ids=[0, 101, 102], vocabulary_size=30522,
    )
    ```

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


def masked_lm_loss(head: Any, hidden_states: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The cross-entropy of the hidden tokens, summed.

    Args:
        head: A `keras_hub.layers.MaskedLMHead`.
        hidden_states: Floating tensor of shape `(n, length, dim)`, the encoder's
            output.
        labels: What `mask_tokens` returned, for as many tokens.

    Returns:
        float32 scalar.

    Example:

    ```python
    masked_lm_loss(head, hidden_states, labels)
    ```
    """
    dim = hidden_states.shape[-1]
    labels = tf.reshape(labels, (-1,))
    positions = tf.where(labels != NOT_PREDICTED)[:, 0]
    # The head gathers within a row: all tokens make one row, as rows hide different
    # numbers of them.
    logits = head(tf.reshape(hidden_states, (1, -1, dim)), positions[None])[0]
    losses = keras.losses.sparse_categorical_crossentropy(
        tf.gather(labels, positions), tf.cast(logits, tf.float32), from_logits=True
    )
    return tf.reduce_sum(losses)
