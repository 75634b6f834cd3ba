"""SimCSE as a Keras model: two views in, one contrastive loss out."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from safetensors import numpy as safetensors

from simcse_tf.core.atomic import atomic_directory
from simcse_tf.core.errors import UserError
from simcse_tf.distributed import collectives
from simcse_tf.encoders import dropout, presets
from simcse_tf.encoders.bert import PlainBert, Weights
from simcse_tf.encoders.pooling import layers_read, pool, reads_first_token
from simcse_tf.objectives.contrastive import contrastive_loss, l2_normalize
from simcse_tf.objectives.masked_lm import (
    NOT_PREDICTED,
    mask_tokens,
    masked_lm_head,
    masked_lm_loss,
)
from simcse_tf.objectives.step import Step, cached_gradients, direct_gradients
from simcse_tf.tokenizers.bert import BertTokenizer
from simcse_tf.training import optimizer

COLUMNS = ("anchor", "positive", "hard_negative")
Features = Mapping[str, tf.Tensor]
CONFIG_FILE = "simcse.json"
HEAD_FILE = "head.safetensors"
HEAD_INITS = ("random", "pretrained")
ENCODERS = ("shared", "dual")


@keras.saving.register_keras_serializable("simcse_tf")
class SimCSE(keras.Model):
    """A sentence encoder trained with SimCSE's contrastive objective.

    Sentences go in as strings: `fit`, `evaluate` and `predict` tokenize them.
    `fit` takes batches of single sentences (unsupervised: each is encoded twice,
    under two dropout masks), of pairs, or of triplets (anchor, positive, hard
    negative).

    Args:
        backbone: A `keras_hub.models.Backbone` of transformer encoder layers.
            Layers that the embedding does not pass through are frozen.
        tokenizer: A `simcse_tf.tokenizers.bert.BertTokenizer`.
        pooling: string. One of `"cls"` (the first token through the MLP head),
            `"cls_before_pooler"`, `"avg"`, `"avg_top2"`, `"avg_first_last"`.
            Defaults to `"cls"`.
        head_in_inference: bool. If `False`, the head is used in training only, as
            in the paper's unsupervised models. Defaults to `True`.
        max_length: int. Longer token sequences are cut; `[CLS]` and `[SEP]`
            count. Defaults to `32`, the paper's.
        temperature: float. Of the loss. Defaults to `0.05`.
        hard_negative_weight: float. Of the loss. Defaults to `0.0`.
        exact_gelu: bool. Whether the backbone's feed-forward layers compute GELU
            itself, as Hugging Face's BERT does, in place of the tanh approximation
            of Google's, which is KerasHub's. Defaults to `False`.
        mlm_weight: float. Of the masked-language-model loss that is added to the
            contrastive one. The head that it trains comes from a local Hugging
            Face checkpoint that has one, else it is fresh; a saved preset leaves
            it out. Defaults to `0.0`: none.
        mlm_probability: float. With which a token is hidden and to be predicted.
            Defaults to `0.15`.
        encoders: string. `"shared"`: one encoder for anchors and positives.
            `"dual"`: positives and hard negatives have one of their own, which
            starts from the same backbone, is used in training only and left out of
            a saved preset. Defaults to `"shared"`.
        same_mask: bool. Whether the passes of a step share one dropout mask: the
            paper's "fixed 0.1", which has nothing to learn from. Defaults to
            `False`.

    Raises:
        ValueError: If the pooling is unknown or the backbone cannot serve it, or
            `encoders` is unknown.
        UserError: If `max_length` is out of the backbone's range, or the
            vocabulary has no `[MASK]` for the masked language model.

    Example:

    ```python
    model = SimCSE.from_preset("bert_base_en_uncased", head_init="random")
    model.compile(optimizer=keras.optimizers.Adam(3e-5))
    model.fit(["A man is playing a guitar.", "Two dogs run."], batch_size=2)
    model.predict(["A woman plays the violin."])  # float32, (1, 768), unit length
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821)
    """

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        tokenizer: BertTokenizer,
        pooling: str = "cls",
        head_in_inference: bool = True,
        max_length: int = 32,
        temperature: float = 0.05,
        hard_negative_weight: float = 0.0,
        exact_gelu: bool = False,
        mlm_weight: float = 0.0,
        mlm_probability: float = 0.15,
        encoders: str = "shared",
        same_mask: bool = False,
        **kwargs: Any,
    ):
        kwargs.setdefault("dtype", backbone.dtype_policy)
        super().__init__(**kwargs)
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.head_in_inference = head_in_inference
        self.max_length = _checked_length(max_length, backbone)
        self.temperature = temperature
        self.hard_negative_weight = hard_negative_weight
        self.exact_gelu = exact_gelu
        if exact_gelu:
            _set_exact_gelu(backbone)
        if encoders not in ENCODERS:
            raise ValueError(
                f"`encoders` must be one of {', '.join(ENCODERS)}. "
                f"Received: {encoders!r}"
            )
        self.mlm_weight = mlm_weight
        self.mlm_probability = mlm_probability
        self.micro_batch_size: int | None = None
        self.loss_tracker = keras.metrics.Mean(name="loss")
        # Batches come in many shapes, each of which XLA would compile anew.
        self.supports_jit = False

        self._states = _layer_outputs(backbone, pooling)
        self._plain_bert = (
            PlainBert(backbone, layers_read(pooling), reads_first_token(pooling))
            if PlainBert.supports(backbone)
            else None
        )
        self._traced_infer: tuple[Weights, Any] | None = None
        self.embedding_dim = int(_sequence_output(backbone).shape[-1])
        self.head = _mlp_head(self.embedding_dim, self) if pooling == "cls" else None
        self.masked_lm_head = (
            masked_lm_head(backbone, tokenizer) if mlm_weight else None
        )
        self.encoders = encoders
        self.same_mask = same_mask
        self.positive_encoder = self._copy() if encoders == "dual" else None
        self._dropout_states = dropout.random_states(self)
        self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    def call(
        self, inputs: Mapping[str, Any], training: bool = False, normalize: bool = True
    ) -> tf.Tensor:
        """Embeds tokenized sentences.

        Args:
            inputs: What `preprocess` returns.
            training: bool. Whether dropout is on. Defaults to `False`.
            normalize: bool. Whether to scale embeddings to unit length. Defaults to
                `True`.

        Returns:
            float32 tensor of shape `(n, embedding_dim)`.
        """
        states = self._states(inputs, training)
        return self._embeddings(states, inputs, training, normalize)

    def _embeddings(
        self,
        states: list[tf.Tensor],
        inputs: Mapping[str, Any],
        training: bool,
        normalize: bool,
    ) -> tf.Tensor:
        pooled = pool(states, inputs["padding_mask"], self.pooling)
        if self.head is not None and (training or self.head_in_inference):
            pooled = self.head(pooled)
        return l2_normalize(pooled) if normalize else tf.cast(pooled, tf.float32)

    def _copy(self) -> "SimCSE":
        """Another encoder on a copy of the backbone; its head is a fresh one."""
        backbone = type(self.backbone).from_config(self.backbone.get_config())
        backbone.set_weights(self.backbone.get_weights())
        return SimCSE(backbone, self.tokenizer, **self._settings())

    # === Strings to tokens ===

    def preprocess(self, text: tf.Tensor) -> Any:
        """Tokenizes and pads sentences, in the graph.

        Args:
            text: string tensor of shape `(n,)`.

        Returns:
            Dictionary of int32 tensors of shape `(n, length of the longest)`, or
            `(n, max_length)` on TPUs: the backbone's inputs.
        """
        # A TPU compiles the step for one shape.
        on_tpu = isinstance(self.distribute_strategy, tf.distribute.TPUStrategy)
        length = self.max_length if on_tpu else None
        return self.pad(self.tokenizer(text, self.max_length), length)

    def inference(self, normalize: bool = True) -> Callable[..., tf.Tensor]:
        """`call` without dropout, on one device and faster for a BERT backbone.

        Args:
            normalize: bool. As for `call`.

        Returns:
            Function of what `preprocess` returns, traced, with the weights as they
            are now.
        """
        fixed = self.fixed_weights()
        if self._traced_infer is None or not _equal(fixed, self._traced_infer[0]):
            self._traced_infer = fixed, self._trace_infer(fixed)
        _, infer = self._traced_infer
        weights = self.inference_weights()
        # The first call optimizes the graph; of several threads' each would.
        infer(weights, dict.fromkeys(self.backbone.input, tf.ones([1, 1], tf.int32)))

        def embed(inputs: Mapping[str, Any]) -> tf.Tensor:
            embeddings = infer(weights, inputs)
            return l2_normalize(embeddings) if normalize else embeddings

        return embed

    def _trace_infer(self, fixed: Weights) -> Any:
        weights = tf.nest.map_structure(
            tf.TensorSpec.from_tensor, self.inference_weights()
        )
        tokens = tf.TensorSpec([None, None], tf.int32)
        return tf.function(
            lambda weights, inputs: self.infer(weights | fixed, inputs, False),
            [weights, dict.fromkeys(self.backbone.input, tokens)],
            autograph=False,
        )

    def inference_weights(self) -> Weights:
        """What `infer` reads of the backbone, as it is now."""
        return self._plain_bert.weights() if self._plain_bert else {}

    def fixed_weights(self) -> Weights:
        """Those of `inference_weights` that are faster as constants, in NumPy.

        A matrix in half precision is rearranged before a product: a constant one once,
        any other every time. In float32 there are none, and a graph stays small.
        """
        if self._plain_bert is None or self.compute_dtype == "float32":
            return {}
        layers = self._plain_bert.weights()["layers"]
        return {"layers": tf.nest.map_structure(lambda each: each.numpy(), layers)}

    def infer(
        self, weights: Weights, inputs: Mapping[str, Any], normalize: bool = True
    ) -> tf.Tensor:
        """What `inference` traces.

        Args:
            weights: What `inference_weights` returns, or `fixed_weights` over it.
            inputs: What `preprocess` returns.
            normalize: bool. As for `call`.

        Returns:
            As `call`.
        """
        if self._plain_bert is None:
            return self(inputs, normalize=normalize)
        states = self._plain_bert.states(weights, inputs)
        return self._embeddings(states, inputs, False, normalize)

    @functools.cached_property
    def _traced_tokenizer(self) -> Any:
        # A `tf.data` pipeline copies the vocabulary whenever it is started, which
        # would cost `predict` more than a short list's embeddings do.
        return tf.function(self.tokenizer, reduce_retracing=True)

    def pad(self, tokens: tf.RaggedTensor, length: int | None = None) -> Any:
        """Pads token ids.

        Args:
            tokens: int32 ragged tensor of shape `(n, None)`.
            length: Optional int. Defaults to that of the longest row.

        Returns:
            As `preprocess`.
        """
        token_ids = tokens.to_tensor(self.tokenizer.pad_token_id, shape=(None, length))
        lengths = tokens.row_lengths()
        features = {
            "token_ids": token_ids,
            # int32 and not bool: `tf.distribute` cannot sum bool tensors.
            "padding_mask": tf.sequence_mask(
                lengths, tf.shape(token_ids)[1], dtype=tf.int32
            ),
            "segment_ids": tf.zeros_like(token_ids),
        }
        return {name: features[name] for name in self.backbone.input}

    def tokenize(self, texts: Any) -> list[list[int]]:
        """Token ids of sentences, `[CLS]` ... `[SEP]`, cut at `max_length`.

        Args:
            texts: List, NumPy array or tensor of strings, shape `(n,)`.

        Returns:
            List of `n` lists of int.
        """
        return self._traced_tokenizer(string_tensor(texts), self.max_length).to_list()

    # === Training and inference ===

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_tracker]

    def compile(
        self, *args: Any, micro_batch_size: int | None = None, **kwargs: Any
    ) -> None:
        """Configures training as `keras.Model.compile` does.

        Args:
            *args: As for `keras.Model.compile`.
            micro_batch_size: Optional int. How many examples of a replica's batch,
                which it must divide, are encoded at a time: the same step in less
                memory and more time. Defaults to `None`: all of them.
            **kwargs: As for `keras.Model.compile`.
        """
        super().compile(*args, **kwargs)
        self.micro_batch_size = micro_batch_size
        # Before a step is traced: its loss is scaled by one of the variables. Built
        # twice, Keras' LossScaleOptimizer would have two sets of them.
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        optimizer.expect_summed_gradients(self.optimizer)

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        return {**config, "micro_batch_size": self.micro_batch_size}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        data, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        views = _views(data)
        rows = tf.shape(views[0]["token_ids"])[0]
        if self.micro_batch_size is None:
            result = direct_gradients(self._step(views, rows))
        else:
            step = self._step(views, self.micro_batch_size)
            count = _quotient(rows, self.micro_batch_size)
            result = cached_gradients(step, count)
        loss, mlm_loss, gradients = result
        # Before the optimizer clips them or looks for an overflow: both are to be of
        # the whole batch, and the same on every replica.
        gradients = collectives.sum_over_replicas(gradients)
        self.optimizer.apply(gradients, self.trainable_variables)
        logs = self._logs(loss + mlm_loss, rows)
        if self.mlm_weight:
            mlm_loss = collectives.mean_over_replicas(mlm_loss / self.mlm_weight)
            logs["mlm_loss"] = collectives.logged(mlm_loss)
        return logs

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        data, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        views = _views(data)
        encoders = self._encoders(len(views))
        embeddings = tf.stack(
            [
                encode(view, training=False)
                for encode, view in zip(encoders, views, strict=True)
            ]
        )
        return self._logs(self._contrastive_loss(embeddings), tf.shape(embeddings)[1])

    def _step(self, views: list[Features], rows: Any) -> Step:
        """What a step on one replica's batch computes, `rows` examples at a time."""
        dropout_seed, *mlm_seeds = self._draw_seeds(3)

        def encode(index: Any) -> tf.Tensor:
            seed = tf.random.fold_in(dropout_seed, index)
            part = _part(views, index, rows)
            if self._plain_bert and self.encoders == "shared" and not self.same_mask:
                return self._one_pass(self._plain_bert, part, seed)
            return tf.stack(self._passes(self._encoders(len(part)), part, seed))

        mlm = self._masked_lm(views, rows, *mlm_seeds) if self.mlm_weight else _nothing
        replicas = self.distribute_strategy.num_replicas_in_sync
        return Step(
            encode,
            loss=self._contrastive_loss,
            auxiliary=mlm,
            scale=lambda loss: self.optimizer.scale_loss(loss / replicas),
            variables=self.trainable_variables,
        )

    def _draw_seeds(self, count: int) -> list[tf.Tensor]:
        """Seeds for this step, others on every replica."""
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        seed = tf.random.fold_in(seed, collectives.replica_offset(1))
        return tf.unstack(tf.random.split(seed, count))

    def _encoders(self, columns: int) -> list[Callable[..., tf.Tensor]]:
        """What encodes the anchors, the positives and the hard negatives."""
        return [self, *[self.positive_encoder or self] * (columns - 1)]

    def _one_pass(
        self, plain_bert: PlainBert, views: list[Features], seed: tf.Tensor
    ) -> tf.Tensor:
        """`_passes` of all views together, each sentence under a mask of its own."""
        lengths = [tf.shape(view["token_ids"])[1] for view in views]
        longest = tf.reduce_max(tf.stack(lengths))
        inputs = {
            name: tf.concat(
                [
                    tf.pad(view[name], [[0, 0], [0, longest - length]])
                    for view, length in zip(views, lengths, strict=True)
                ],
                axis=0,
            )
            for name in ("token_ids", "padding_mask")
        }
        states = plain_bert.training_states(plain_bert.weights(), inputs, seed)
        embeddings = self._embeddings(states, inputs, training=True, normalize=True)
        return tf.reshape(embeddings, [len(views), -1, self.embedding_dim])

    def _passes(
        self,
        encoders: list[Callable[..., tf.Tensor]],
        views: list[Features],
        seed: tf.Tensor,
    ) -> list[tf.Tensor]:
        """Encodes every view in training mode, under dropout masks of its own."""
        outputs = []
        for column, (encode, view) in enumerate(zip(encoders, views, strict=True)):
            column_seed = tf.random.fold_in(seed, 0 if self.same_mask else column)
            with dropout.dropout_seed_scope(column_seed, self._dropout_states):
                outputs.append(encode(view, training=True))
        return outputs

    def _contrastive_loss(self, embeddings: tf.Tensor) -> tf.Tensor:
        """The loss of this replica's anchors among all replicas' candidates."""
        anchor, *candidates = tf.unstack(embeddings)
        return contrastive_loss(
            anchor,
            *[collectives.gather(candidate) for candidate in candidates],
            temperature=self.temperature,
            hard_negative_weight=self.hard_negative_weight,
            offset=collectives.replica_offset(tf.shape(anchor)[0]),
        )

    def _masked_lm(
        self,
        views: list[Features],
        rows: Any,
        masking_seed: tf.Tensor,
        dropout_seed: tf.Tensor,
    ) -> Callable[[Any], tf.Tensor]:
        """The masked-language-model loss as a function of a part's index."""
        masked, labels = self._masked(views, masking_seed)
        hidden = tf.add_n(
            [tf.math.count_nonzero(each != NOT_PREDICTED) for each in labels]
        )
        # The mean over the tokens hidden on all replicas, as on one device.
        hidden = collectives.mean_over_replicas(tf.cast(hidden, tf.float32))

        def loss(index: Any) -> tf.Tensor:
            part, part_labels = _part((masked, labels), index, rows)
            seed = tf.random.fold_in(dropout_seed, index)
            states = self._passes([self._last_states] * len(part), part, seed)
            losses = [
                masked_lm_loss(self.masked_lm_head, *pair)
                for pair in zip(states, part_labels, strict=True)
            ]
            return self.mlm_weight * tf.add_n(losses) / tf.maximum(hidden, 1.0)

        return loss

    def _masked(
        self, views: list[Features], seed: tf.Tensor
    ) -> tuple[list[Features], list[tf.Tensor]]:
        """The views with some tokens hidden, and which ones those were."""
        tokenizer = self.tokenizer
        masked: list[Features] = []
        labels = []
        for view, view_seed in zip(
            views, tf.unstack(tf.random.split(seed, len(views))), strict=True
        ):
            token_ids, token_labels = mask_tokens(
                view["token_ids"],
                view_seed,
                probability=self.mlm_probability,
                mask_token_id=cast(int, tokenizer.mask_token_id),
                special_token_ids=(
                    tokenizer.pad_token_id,
                    tokenizer.cls_token_id,
                    tokenizer.sep_token_id,
                ),
                vocabulary_size=len(tokenizer.vocabulary),
            )
            masked.append({**view, "token_ids": token_ids})
            labels.append(token_labels)
        return masked, labels

    def _last_states(self, features: Features, training: bool) -> tf.Tensor:
        return self._states(features, training)[-1]

    def _logs(self, loss: tf.Tensor, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        loss = collectives.mean_over_replicas(loss)
        self.loss_tracker.update_state(loss, sample_weight=examples)
        return {"loss": collectives.logged(loss)}

    def _maybe_symbolic_build(
        self, iterator: Any = None, data_batch: Any = None
    ) -> None:
        # Nothing is left to build, and Keras would average the replicas' first
        # batches for it, which are of different lengths.
        pass

    def fit(
        self, x: Any, batch_size: int = 32, shuffle: bool = True, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains as `keras.Model.fit` does.

        Args:
            x: The sentences: a list, array or tensor of strings, or a tuple of
                two or three of those (anchors, positives, hard negatives), or a
                `tf.data.Dataset` of such elements, batched or not.
            batch_size: int. Not used for a dataset that is batched. Defaults to
                `32`.
            shuffle: bool. Shuffles what is not a dataset, every epoch. Defaults
                to `True`.
            **kwargs: As for `keras.Model.fit`; `validation_data` takes what `x`
                takes.

        Returns:
            A `keras.callbacks.History`.
        """
        validation = kwargs.pop("validation_data", None)
        if validation is not None:
            kwargs["validation_data"] = self._batches(validation, batch_size)
        # Keras would only warn that it cannot shuffle a dataset.
        return super().fit(
            self._batches(x, batch_size, shuffle), shuffle=False, **kwargs
        )

    def evaluate(self, x: Any, batch_size: int = 32, **kwargs: Any) -> Any:
        """The contrastive loss without dropout; `x` as for `fit`."""
        return super().evaluate(self._batches(x, batch_size), **kwargs)

    def predict(self, x: Any, batch_size: int = 32, **kwargs: Any) -> np.ndarray:
        """Embeds sentences.

        Args:
            x: List, NumPy array or tensor of strings (`str` or UTF-8 `bytes`), or
                a `tf.data.Dataset` of them, batched or not.
            batch_size: int. Defaults to `32`.
            **kwargs: As for `keras.Model.predict`.

        Returns:
            float32 array of shape `(n, embedding_dim)`, rows of unit length.
        """
        if not isinstance(x, tf.data.Dataset):
            tokens = self._traced_tokenizer(string_tensor(x), self.max_length)
            if not tokens.nrows():
                return np.zeros((0, self.embedding_dim), np.float32)
            x = tf.data.Dataset.from_tensor_slices(tokens).batch(batch_size)
            x = x.map(self.pad, tf.data.AUTOTUNE)
        elif isinstance(x.element_spec, tf.TensorSpec):
            x = _batched(x, batch_size).map(self.preprocess, tf.data.AUTOTUNE)
        return super().predict(x, **kwargs)

    def _batches(
        self, x: Any, batch_size: int, shuffle: bool = False
    ) -> tf.data.Dataset:
        if not isinstance(x, tf.data.Dataset | tf.distribute.DistributedDataset):
            columns = tuple(map(string_tensor, x if isinstance(x, tuple) else (x,)))
            size = len(columns[0])
            x = tf.data.Dataset.from_tensor_slices(columns)
            x = x.shuffle(size) if shuffle else x
            batch_size = min(batch_size, size)
        if isinstance(x.element_spec, Mapping):
            return x
        x = _batched(x, batch_size, drop_remainder=True)
        return x.map(self.prepare, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def prepare(self, *columns: tf.Tensor) -> dict[str, Any]:
        """Tokenizes one training batch.

        Args:
            *columns: One to three string tensors of shape `(n,)`: anchors,
                positives, hard negatives.

        Returns:
            Dictionary of `"anchor"`, and of `"positive"` and `"hard_negative"`
            where given, to what `preprocess` returns.
        """
        if not 1 <= len(columns) <= len(COLUMNS):
            raise ValueError(
                f"Expected 1 to 3 columns ({', '.join(COLUMNS)}). "
                f"Received: {len(columns)}"
            )
        return {
            name: self.preprocess(column)
            for name, column in zip(COLUMNS, columns, strict=False)
        }

    # === Saving and loading ===

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "tokenizer": self._tokenizer_config(),
            **self._settings(),
            "mlm_weight": self.mlm_weight,
            "mlm_probability": self.mlm_probability,
            "encoders": self.encoders,
            "same_mask": self.same_mask,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SimCSE":
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(config["backbone"])
        config["tokenizer"] = BertTokenizer(**config["tokenizer"])
        return cls(**config)

    def description(self) -> dict[str, Any]:
        """What embeddings follow from beside the weights, in JSON's types."""
        return {
            "tokenizer": self._tokenizer_config(),
            "dtype": self.compute_dtype,
            **self._settings(),
        }

    def _tokenizer_config(self) -> dict[str, Any]:
        vocabulary = self.tokenizer.vocabulary
        return {"vocabulary": vocabulary, **self.tokenizer.get_config()}

    def _settings(self) -> dict[str, Any]:
        return {
            "pooling": self.pooling,
            "head_in_inference": self.head_in_inference,
            "max_length": self.max_length,
            "temperature": self.temperature,
            "hard_negative_weight": self.hard_negative_weight,
            "exact_gelu": self.exact_gelu,
        }

    def save_to_preset(self, path: str) -> None:
        """Writes the model to a directory, whole or not at all.

        The directory is a KerasHub preset (backbone and tokenizer load with
        KerasHub alone) with SimCSE's head and settings beside it.

        Args:
            path: string. The directory; an older one is replaced.

        Raises:
            OSError: If it cannot be written; an older one is then still there.
        """
        with atomic_directory(path) as directory:
            self.write_preset(directory)

    def write_preset(self, directory: Path) -> None:
        """Writes `save_to_preset`'s files into a directory that is there."""
        self.backbone.save_to_preset(str(directory))
        presets.save_tokenizer(self.tokenizer, str(directory))
        if self.head is not None:
            head = {v.name: v.numpy() for v in self.head.weights}
            (directory / HEAD_FILE).write_bytes(safetensors.save(head))
        settings = json.dumps(self._settings(), indent=2) + "\n"
        (directory / CONFIG_FILE).write_text(settings, "utf-8")

    @classmethod
    def from_preset(
        cls,
        preset: str,
        *,
        head_init: str = "pretrained",
        dropout: float | None = None,
        dtype: str = "float32",
        **settings: Any,
    ) -> "SimCSE":
        """Loads a model.

        Args:
            preset: string. A directory that `save_to_preset` wrote, a KerasHub
                preset name or handle, a directory in KerasHub or Hugging Face
                format, or `package://PACKAGE/PATH`.
            head_init: string. `"pretrained"`: the head comes from the checkpoint
                (our own head, or the backbone's pooler, which is where released
                SimCSE checkpoints keep theirs). `"random"`: a fresh one, as the
                paper starts training. Defaults to `"pretrained"`.
            dropout: Optional float. Replaces the backbone's rate everywhere it
                applies dropout.
            dtype: string. The dtype policy to compute with. Defaults to
                `"float32"`.
            **settings: Constructor arguments that override the checkpoint's own
                or, where it has none, the defaults: `pooling`, `max_length`, ...

        Raises:
            UserError: If there is no such model, it cannot be loaded, or a
                setting does not fit it.
        """
        preset = presets.resolve(preset)
        overrides = {} if dropout is None else {"dropout": dropout}
        backbone = presets.load_backbone(preset, dtype=dtype, **overrides)
        tokenizer = presets.load_tokenizer(preset)
        given = {key: value for key, value in settings.items() if value is not None}
        model = cls(backbone, tokenizer, **(_saved_settings(preset, backbone) | given))
        for each in filter(None, (model, model.positive_encoder)):
            if each.head is not None:
                saved_head = Path(preset) / HEAD_FILE
                _initialize_head(each.head, head_init, saved_head, backbone)
        if model.masked_lm_head is not None:
            presets.load_masked_lm_head(model.masked_lm_head, preset)
        return model


def _initialize_head(
    head: keras.layers.Dense,
    head_init: str,
    saved_head: Path,
    backbone: keras_hub.models.Backbone,
) -> None:
    if head_init not in HEAD_INITS:
        raise UserError(
            f"`head_init` must be one of {', '.join(HEAD_INITS)}. "
            f"Received: {head_init!r}"
        )
    if head_init == "random":
        return
    pooler = getattr(backbone, "pooled_dense", None)
    if saved_head.is_file():
        saved = safetensors.load_file(saved_head)
        head.set_weights([saved[v.name] for v in head.weights])
    elif pooler is not None:
        head.set_weights(pooler.get_weights())
    else:
        raise UserError(
            f"{type(backbone).__name__} has no pretrained pooler to make the head "
            "from: choose head_init random and train it, or another pooling such as "
            "cls_before_pooler or avg"
        )


def string_tensor(texts: Any) -> tf.Tensor:
    """A string tensor of shape `(n,)` from a list, array or tensor of strings.

    Raises:
        TypeError: If `texts` is a single string or holds anything but `str` and
            `bytes`.
    """
    if isinstance(texts, tf.Tensor) and texts.dtype == tf.string:
        return texts
    if isinstance(texts, str | bytes):
        raise TypeError(f"Expected a list of strings. Received one string: {texts!r}")
    texts = np.asarray(texts, dtype=object).ravel().tolist()
    for text in texts:
        if not isinstance(text, str | bytes):
            raise TypeError(
                f"Expected strings. Received {text!r} of type {type(text).__name__}"
            )
    # A lone surrogate has no UTF-8 form; its bytes pass, and become U+FFFD later.
    encoded = [
        text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        for text in texts
    ]
    return tf.constant(encoded, tf.string, shape=(len(encoded),))


def _checked_length(max_length: int, backbone: keras_hub.models.Backbone) -> int:
    limit = longest_input(backbone)
    if not 2 <= max_length <= limit:
        raise UserError(
            f"max_length must be between 2 and {limit}, the backbone's own limit; "
            f"received {max_length}"
        )
    return max_length


def longest_input(backbone: keras_hub.models.Backbone) -> int:
    """How many tokens a backbone has positions for."""
    return int(backbone.max_sequence_length)


def _sequence_output(backbone: keras_hub.models.Backbone) -> Any:
    output = backbone.output
    return output["sequence_output"] if isinstance(output, Mapping) else output


def _layer_outputs(
    backbone: keras_hub.models.Backbone, pooling: str
) -> Callable[[Mapping[str, Any], bool], list[tf.Tensor]]:
    """A function from the backbone's inputs to the states that a pooler reads."""
    layers = layers_read(pooling)
    outputs = [_sequence_output(backbone)]
    if layers != (-1,):
        encoders = _encoder_layers(backbone)
        if not encoders:
            raise ValueError(
                f"`pooling={pooling!r}` needs a backbone of TransformerEncoder layers. "
                f"Received: {type(backbone).__name__}"
            )
        outputs = [encoders[index].output for index in layers]
    states = keras.Model(backbone.input, outputs)
    for layer in backbone.layers:
        if layer not in states.layers:
            layer.trainable = False
    # A closure keeps Keras from tracking the backbone's layers a second time.
    return lambda inputs, training: keras.tree.flatten(
        states(dict(inputs), training=training)
    )


def _encoder_layers(backbone: keras_hub.models.Backbone) -> list[Any]:
    encoder = keras_hub.layers.TransformerEncoder
    return [layer for layer in backbone.layers if isinstance(layer, encoder)]


def _set_exact_gelu(backbone: keras_hub.models.Backbone) -> None:
    for layer in _encoder_layers(backbone):
        layer._feedforward_intermediate_dense.activation = keras.activations.gelu


def _equal(one: Weights, other: Weights) -> bool:
    return all(map(np.array_equal, tf.nest.flatten(one), tf.nest.flatten(other)))


def _views(data: Mapping[str, Features]) -> list[Features]:
    columns = [data[name] for name in COLUMNS if name in data]
    # Unsupervised SimCSE: the same sentence again, under another mask.
    return columns * 2 if len(columns) == 1 else columns


def _part(batch: Any, index: Any, rows: Any) -> Any:
    """The `index`-th `rows` rows of every tensor in a nested structure."""
    return tf.nest.map_structure(
        lambda tensor: tensor[index * rows : (index + 1) * rows], batch
    )


def _nothing(index: Any) -> tf.Tensor:
    return tf.zeros(())


def _quotient(rows: tf.Tensor, micro_batch_size: int) -> tf.Tensor:
    message = f"micro_batch_size {micro_batch_size} does not divide a replica's batch"
    with tf.control_dependencies(
        [tf.debugging.assert_equal(rows % micro_batch_size, 0, message)]
    ):
        return rows // micro_batch_size


def _mlp_head(width: int, model: keras.Model) -> keras.layers.Dense:
    head = keras.layers.Dense(
        width,
        activation="tanh",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
        dtype=model.dtype_policy,
        name="head",
    )
    head.build((None, width))
    return head


def _batched(
    dataset: tf.data.Dataset, batch_size: int, drop_remainder: bool = False
) -> tf.data.Dataset:
    first = tf.nest.flatten(dataset.element_spec)[0]
    if first.shape.rank == 0:
        dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
    return dataset


def _saved_settings(preset: str, backbone: keras_hub.models.Backbone) -> dict[str, Any]:
    own = Path(preset) / CONFIG_FILE
    if own.is_file():
        return json.loads(own.read_text("utf-8"))
    defaults = presets.checkpoint_defaults(preset)
    limit = longest_input(backbone)
    return {
        "pooling": defaults.pooling or "cls",
        "max_length": min(defaults.max_length or limit, limit),
        "exact_gelu": defaults.exact_gelu,
    }
