"""SimCSE as a Keras model: two views in, one contrastive loss out."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_hub
import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.distributed import collectives
from simcse_tf.encoders.dropout import random_states
from simcse_tf.encoders.embedder import Embedder
from simcse_tf.model.compilation import JitCompile, compiled, is_compiled
from simcse_tf.model.sentence_encoder import SentenceEncoder
from simcse_tf.objectives.base import Objective, Targets
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.defaults import HARD_NEGATIVE_WEIGHT, TEMPERATURE
from simcse_tf.objectives.gradient_caching import cached_gradients
from simcse_tf.objectives.step import Step, direct_gradients
from simcse_tf.objectives.views import Views, embed_views, micro_batch, stack_views
from simcse_tf.tokenizers.base import Tokenizer

ENCODERS = ("shared", "dual")
# Beside the columns in a prepared batch.
_TARGETS = "targets"


@keras.saving.register_keras_serializable("simcse_tf")
class SimCSE(SentenceEncoder):
    """A sentence encoder trained with SimCSE's contrastive objective.

    Sentences go in as strings: `fit`, `evaluate` and `predict` tokenize them.
    `fit` takes batches of single sentences (unsupervised: each is encoded twice,
    under two dropout masks), of pairs, or of triplets (anchor, positive, hard
    negative).

    Args:
        backbone: A `keras_hub.models.Backbone` of transformer encoder layers.
            Layers that the embedding does not pass through are frozen.
        tokenizer: The backbone's tokenizer, such as a
            `simcse_tf.tokenizers.bert.BertTokenizer`.
        pooling: string. `"cls"` (the first token through the MLP head),
            `"cls_before_pooler"`, `"avg"`, `"avg_top2"`, `"avg_first_last"`, `"max"`,
            `"mean_sqrt_len"`, `"weightedmean"`, `"lasttoken"`, or several of these
            but the first joined by `+`, whose vectors are concatenated. Defaults to
            `"cls"`.
        head_in_inference: bool. If `False`, the head is used in training only, as
            in the paper's unsupervised models. Defaults to `True`.
        max_length: int. Longer token sequences are cut; `[CLS]` and `[SEP]`
            count. Defaults to `32`, the paper's.
        activation: Optional string. What the backbone's feed-forward layers compute:
            `"gelu"` is exact GELU, as Hugging Face's BERT has it, and
            `"gelu_approximate"` the approximation of Google's BERT, which KerasHub
            uses. See `simcse_tf.encoders.activations`. Defaults to `None`: the
            backbone's own.
        layer_norm_epsilon: Optional float. The epsilon of the backbone's layer
            normalizations. Defaults to `None`: the backbone's own.
        dense: Sequence of dictionaries. Dense layers on the pooled vector, a head in
            place of the paper's: each has `"units"` and may have `"activation"`
            (`"tanh"` if not) and `"use_bias"` (`True` if not). Defaults to `()`.
        prompt: string. Put before every text. Defaults to `""`.
        prompts: Optional dictionary of named prompts, to choose `prompt` from.
            Defaults to `None`: none.
        encoders: string. `"shared"`: one encoder for anchors and positives.
            `"dual"`: positives and hard negatives have one of their own, which
            starts from the same backbone, is used in training only and left out of
            a saved preset. Defaults to `"shared"`.
        temperature: float. Short for the objective `Contrastive(temperature)`, which
            `compile` may replace. Defaults to `0.05`.
        hard_negative_weight: float. See `Contrastive`. Defaults to `0.0`.
        static_shapes: Optional bool. Whether batches are padded to a few lengths, so
            that XLA can compile the step. Defaults to `None`: on GPUs and TPUs.

    Raises:
        UserError: If a setting is unknown or does not fit the others, or
            `max_length` is out of the backbone's range.
        ValueError: If the backbone cannot serve the pooling, or `encoders` is
            unknown.

    Example:

    ```python
    model = SimCSE.from_preset("bert_base_en_uncased", head_init="random")
    model.compile(keras.optimizers.Adam(3e-5), objective=Contrastive(temperature=0.05))
    model.fit(["A man is playing a guitar.", "Two dogs run."], batch_size=2)
    model.predict(["A woman plays the violin."])  # float32, (1, 768), unit length
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821)
    """

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        tokenizer: Tokenizer,
        *,
        encoders: str = "shared",
        temperature: float = TEMPERATURE,
        hard_negative_weight: float = HARD_NEGATIVE_WEIGHT,
        **settings: Any,
    ):
        super().__init__(backbone, tokenizer, **settings)
        if encoders not in ENCODERS:
            raise ValueError(
                f"`encoders` must be one of {', '.join(ENCODERS)}. "
                f"Received: {encoders!r}"
            )
        self.encoders = encoders
        self.positive_encoder = self.copied() if encoders == "dual" else None
        if self.positive_encoder is not None:
            self._random_states.extend(random_states(self.positive_encoder))
        self.objective: Objective = Contrastive(temperature, hard_negative_weight)
        self.objective_layers: list[keras.layers.Layer] = []
        self.micro_batch_size: int | None = None
        self.column_prompts: Sequence[str] | None = None
        self.loss_tracker = keras.metrics.Mean(name="loss")

    # No property: Keras would save it as one more part of the model.
    def candidate_encoder(self) -> SentenceEncoder:
        """What embeds positives and hard negatives."""
        return self.positive_encoder or self

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_tracker]

    def compile(
        self,
        *args: Any,
        objective: Objective | None = None,
        micro_batch_size: int | None = None,
        jit_compile: JitCompile = "auto",
        column_prompts: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Configures training as `keras.Model.compile` does.

        Args:
            *args: See `keras.Model.compile`. A loss or metrics are refused: the loss
                is the objective's.
            objective: Optional `simcse_tf.objectives.base.Objective`. Defaults to the
                constructor's `Contrastive`.
            micro_batch_size: Optional int. How many examples of a replica's batch,
                which it must divide, are encoded at a time: the same step in less
                memory and more time. Defaults to `None`: all of them.
            jit_compile: bool or string. Whether XLA compiles the step: on one device
                all of it, on several what each computes alone, which the update is
                with our `Adam`, not with Keras' optimizers. Defaults to `"auto"`:
                with static shapes on a GPU, unless the objective's shapes are not.
            column_prompts: Optional two strings. The prompt of anchors, and that of
                positives and hard negatives. Defaults to `None`: the model's `prompt`
                before every text.
            **kwargs: See `keras.Model.compile`.

        Raises:
            UserError: If the model cannot be trained with the objective, or XLA
                cannot compile it.
        """
        if self.variable_dtype != "float32":
            raise UserError(
                "compile: expected weights in float32 (dtype float32, mixed_bfloat16 "
                f"or mixed_float16), received {self.dtype_policy.name}: it has too few "
                "digits for an optimizer's steps, and Adam moves no weight in bfloat16"
            )
        for prompt in column_prompts or ():
            self._check_prompt(prompt)
        # Keras would compile all that happens in a step, int32 variables too.
        super().compile(*args, jit_compile=False, **kwargs)
        self.micro_batch_size = micro_batch_size
        self.column_prompts = column_prompts
        self.objective = objective or self.objective
        self._compile_step(jit_compile)
        with self.distribute_strategy.scope():
            self.objective.build(self)
            self.objective_layers.clear()
            self.objective_layers.extend(self.objective.layers)
            # The optimizer is built before a step is traced, because one of its
            # variables scales the loss. Built twice, Keras' LossScaleOptimizer has
            # two sets of them.
            if not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
        collectives.expect_summed_gradients(self.optimizer)

    # AutoGraph would hide a `UserError` in one of its own.
    @tf.autograph.experimental.do_not_convert
    def prepare(self, *columns: tf.Tensor) -> dict[str, Any]:
        """Tokenizes one training batch, and adds what the objective needs of it.

        Args:
            *columns: String tensors of shape `(n,)`: anchors, positives, hard
                negatives. Behind them may stand a float tensor `(n,)`: scores.

        Returns:
            As `TextModel.prepare`, and the objective's targets, if it has any, as
            `"targets"`.

        Raises:
            UserError: If the objective cannot be trained on such columns.
        """
        *texts, last = map(tf.convert_to_tensor, columns)
        scores = last if last.dtype.is_floating else None
        if scores is None:
            texts.append(last)
        elif not self.objective.scored:
            raise UserError(
                "expected texts alone, received scores: pairs with scores are trained "
                "with objective CoSENT() or AnglE()"
            )
        batch = super().prepare(*texts)
        targets = self.objective.targets(texts, scores)
        return {**batch, **({_TARGETS: targets} if targets else {})}

    def _column_prompts(self, columns: int) -> list[str]:
        if self.column_prompts is None:
            return super()._column_prompts(columns)
        if columns == 1:
            raise UserError(
                "column_prompts are for anchors and their positives; received single "
                "sentences, which have the model's prompt"
            )
        anchor, other = self.column_prompts
        return [anchor, *[other] * (columns - 1)]

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        views, targets = stack_views(batch), batch.get(_TARGETS, {})
        loss, token_loss = self._step(views, targets, self._draw_seed())
        examples = tf.shape(views["token_ids"])[1]
        return self._logs(loss + token_loss, examples, self.objective.logs(token_loss))

    def _compile_step(self, jit_compile: JitCompile) -> None:
        """Decides what XLA compiles of a step."""
        self._step, self._embed = self._update, self._embed_views
        self._jit_compile_argument = jit_compile
        self.step_is_compiled = is_compiled(
            jit_compile, self.static_shapes, self.objective.static_shapes
        )
        with self.distribute_strategy.scope():
            distributed = tf.distribute.has_strategy()
        apart = self.step_is_compiled and distributed
        if apart:
            # What replicas compute together is between the compiled parts.
            self._embed = compiled(self._embed_views)
        elif self.step_is_compiled:
            self._step = compiled(self._update)
        # A loss scale's optimizer has another inside.
        optimizer: Any = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        if hasattr(optimizer, "jit_compile"):
            optimizer.jit_compile = apart

    def _update(
        self, views: Views, targets: Targets, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes a step; returns the loss of the embeddings and that of the tokens."""
        examples = tf.shape(views["token_ids"])[1]
        rows = self.micro_batch_size or examples
        dropout_seed, *token_seeds = self._split_seed(seed, 3)

        def encode(index: Any) -> tf.Tensor:
            seed = tf.random.fold_in(dropout_seed, index)
            return self._embed(micro_batch(views, index, rows), seed)

        step = Step(
            encode,
            loss=functools.partial(self.objective.embedding_loss, targets=targets),
            token_loss=self.objective.token_loss(views, rows, token_seeds),
            scale=self._scale_loss,
            variables=self.trainable_variables,
        )
        if self.micro_batch_size is None:
            loss, token_loss, gradients = direct_gradients(step)
        else:
            count = _quotient(examples, self.micro_batch_size)
            loss, token_loss, gradients = cached_gradients(step, count)
        # The sum comes before the optimizer clips and looks for an overflow: both
        # must concern the whole batch, and be the same on every replica.
        gradients = collectives.sum_over_replicas(gradients)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.objective.after_update(views, targets, rows)
        return loss, token_loss

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        views = stack_views(batch)
        embeddings = [
            embedder.embed({name: tensor[view] for name, tensor in views.items()})
            for view, embedder in enumerate(self._embedders(views))
        ]
        targets = batch.get(_TARGETS, {})
        loss = self.objective.embedding_loss(tf.stack(embeddings), targets)
        return self._logs(loss, tf.shape(embeddings[0])[0], {})

    def _embed_views(self, views: Views, seed: tf.Tensor) -> tf.Tensor:
        """The embeddings of every view, `(views, n, embedding_dim)`, with dropout."""
        embedders = self._embedders(views)
        return embed_views(embedders, views, seed, self.objective.same_mask)

    def _embedders(self, views: Views) -> list[Embedder]:
        """What embeds the anchors, the positives and the hard negatives."""
        others = self.candidate_encoder().embedder
        return [self.embedder, *[others] * (views["token_ids"].shape[0] - 1)]

    def _scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        replicas = self.distribute_strategy.num_replicas_in_sync
        return self.optimizer.scale_loss(loss / replicas)

    def _logs(
        self, loss: tf.Tensor, examples: Any, others: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        loss = collectives.mean_over_replicas(loss)
        self.loss_tracker.update_state(loss, sample_weight=examples)
        logs = {"loss": loss, **others}
        return {name: collectives.logged(value) for name, value in logs.items()}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "encoders": self.encoders}

    def get_compile_config(self) -> dict[str, Any]:
        return {
            **super().get_compile_config(),
            "objective": keras.saving.serialize_keras_object(self.objective),
            "micro_batch_size": self.micro_batch_size,
            "jit_compile": self._jit_compile_argument,
            "column_prompts": self.column_prompts,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))

    def heads(self) -> list[keras.layers.Layer]:
        """The heads to initialize after loading: one for each encoder."""
        positive = self.positive_encoder
        return [*super().heads(), *(positive.heads() if positive else [])]


def _quotient(examples: tf.Tensor, micro_batch_size: int) -> tf.Tensor:
    message = f"micro_batch_size {micro_batch_size} does not divide a replica's batch"
    with tf.control_dependencies(
        [tf.debugging.assert_equal(examples % micro_batch_size, 0, message)]
    ):
        return examples // micro_batch_size
