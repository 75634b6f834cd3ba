"""A sentence encoder as a Keras model: strings in, embeddings out."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import keras
import keras_hub
import tensorflow as tf

from simcse_tf.checkpoints.load import load_checkpoint
from simcse_tf.checkpoints.own_format import SETTINGS
from simcse_tf.core.atomic import atomic_directory
from simcse_tf.core.errors import UserError
from simcse_tf.distributed import collectives
from simcse_tf.encoders.base import longest_input
from simcse_tf.encoders.dropout import random_states
from simcse_tf.encoders.embedder import Embedder, pooled_dim
from simcse_tf.encoders.families import tokenizer_config, tokenizer_from_config
from simcse_tf.encoders.heads import dense_head, mlp_head, parse_dense
from simcse_tf.encoders.keras_layers import (
    adapt_like,
    configure_layers,
    freeze_unread_layers,
)
from simcse_tf.encoders.pooling import WITH_HEAD, layers_read
from simcse_tf.model import preset_io
from simcse_tf.model.compilation import on_accelerator
from simcse_tf.model.finite import check_variables
from simcse_tf.model.inference import Embed, Inference
from simcse_tf.model.int8 import INT8, Agreement, check_int8, use_int8
from simcse_tf.model.keras_methods import KerasMethods
from simcse_tf.tokenizers.base import Tokenizer

E = TypeVar("E", bound="SentenceEncoder")


class SentenceEncoder(KerasMethods):
    """What `SimCSE` is without its training: backbone, pooling, head.

    Args:
        backbone: See `SimCSE`, also for the other arguments.
        tokenizer: The backbone's tokenizer.
        pooling: string. Defaults to `"cls"`.
        head_in_inference: bool. Defaults to `True`.
        max_length: int. Defaults to `32`.
        activation: Optional string. Defaults to `None`: the backbone's own.
        layer_norm_epsilon: Optional float. Defaults to `None`: the backbone's own.
        dense: Sequence of dictionaries. Defaults to `()`.
        prompt: string. Defaults to `""`.
        prompts: Optional dictionary. Defaults to `None`: none.
        static_shapes: Optional bool. Defaults to `None`: on GPUs and TPUs.

    Raises:
        UserError: If a setting is unknown or does not fit the others, or
            `max_length` is out of the backbone's range.
        ValueError: If the backbone cannot serve the pooling.

    Example:

    ```python
    encoder = SentenceEncoder.from_preset("models/mine")
    encoder.predict(["A man is playing a guitar."])  # (1, embedding_dim)
    ```
    """

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        tokenizer: Tokenizer,
        pooling: str = "cls",
        head_in_inference: bool = True,
        max_length: int = 32,
        activation: str | None = None,
        layer_norm_epsilon: float | None = None,
        dense: Sequence[Mapping[str, Any]] = (),
        prompt: str = "",
        prompts: Mapping[str, str] | None = None,
        static_shapes: bool | None = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("dtype", backbone.dtype_policy)
        super().__init__(**kwargs)
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_length = _checked_length(max_length, backbone)
        self.activation = activation
        self.layer_norm_epsilon = layer_norm_epsilon
        self.dense = [layer._asdict() for layer in parse_dense(dense)]
        self.prompt = prompt
        self.prompts = dict(prompts or {})
        if static_shapes is None:
            static_shapes = on_accelerator()
        self.static_shapes = static_shapes
        # What the model was loaded from, if it was, and how a foreign one was read.
        self.preset: str | None = None
        self.reading: str | None = None
        # How near its embeddings in int8 are to those in float32, if they are in int8.
        self.agreement: Agreement | None = None

        configure_layers(backbone, activation, layer_norm_epsilon)
        freeze_unread_layers(backbone, layers_read(pooling))
        self.head = self._make_head()
        self.embedder = Embedder(
            backbone, pooling, self.head, head_in_inference, self.static_shapes
        )
        # Keras lists these variables first. Checkpoints know variables by this order.
        self._random_states = random_states(self)
        self.seed_generator = keras.random.SeedGenerator()
        self._inference = Inference(self)
        self.built = True

    @property
    def embedding_dim(self) -> int:
        """Columns of what `predict` returns."""
        return self.embedder.dim

    @property
    def precision(self) -> str:
        """What matrix products are computed in: `"int8"`, or the compute dtype."""
        return INT8 if self.agreement else self.compute_dtype

    @property
    def head_in_inference(self) -> bool:
        """Whether `predict` uses the head."""
        return self.embedder.head_in_inference

    @head_in_inference.setter
    def head_in_inference(self, value: bool) -> None:
        self.embedder.head_in_inference = value

    def call(
        self, inputs: Any, training: bool = False, normalize: bool = True
    ) -> tf.Tensor:
        """Embeds sentences.

        Args:
            inputs: Strings, or what `preprocess` returns.
            training: bool. Whether dropout is on. Defaults to `False`.
            normalize: bool. Whether to l2-normalize the embeddings. Defaults to
                `True`.

        Returns:
            float32 tensor of shape `(n, embedding_dim)`.
        """
        if not isinstance(inputs, Mapping):
            inputs = self._features(inputs)
        seed = self._split_seed(self._draw_seed(), 1)[0] if training else None
        return self.embedder.embed(inputs, seed=seed, normalize=normalize)

    def inference(
        self,
        normalize: bool = True,
        jit_compile: bool = False,
        device: str | None = None,
    ) -> Embed:
        """`call` without dropout, traced once: what `encode` runs.

        Args:
            normalize: bool. See `Inference.now`. Defaults to `True`.
            jit_compile: bool. See `Inference.now`. Defaults to `False`.
            device: Optional string. See `Inference.now`. Defaults to `None`.

        Returns:
            Function of padded token ids and of their lengths, with the weights as they
            are now.
        """
        return self._inference.now(normalize, jit_compile, device)

    def _make_head(self) -> keras.layers.Layer | None:
        width = pooled_dim(self.backbone, self.pooling)
        if not self.dense:
            has_head = self.pooling == WITH_HEAD
            return mlp_head(width, self.dtype_policy) if has_head else None
        if self.pooling == WITH_HEAD:
            raise UserError(
                f"pooling {WITH_HEAD} has a head of its own, and dense describes "
                "another one: take cls_before_pooler with dense"
            )
        return dense_head(parse_dense(self.dense), width, self.dtype_policy)

    def _draw_seed(self) -> tf.Tensor:
        """The seed of this step."""
        return tf.cast(self.seed_generator.next(), tf.int32)

    def _split_seed(self, seed: tf.Tensor, count: int) -> list[tf.Tensor]:
        """Seeds from that of a step, different ones on every replica."""
        seed = tf.random.fold_in(seed, collectives.replica_offset(1))
        return tf.unstack(tf.random.split(seed, count))

    def copied(self) -> "SentenceEncoder":
        """Another encoder on a copy of the backbone; its head is a fresh one."""
        backbone = type(self.backbone).from_config(self.backbone.get_config())
        # Its config does not tell.
        adapt_like(self.backbone, backbone)
        backbone.set_weights(self.backbone.get_weights())
        return SentenceEncoder(
            backbone,
            self.tokenizer,
            static_shapes=self.static_shapes,
            **self.settings(),
        )

    # === Saving and loading ===

    def settings(self) -> dict[str, Any]:
        """What decides embeddings, beside weights, tokenizer and precision."""
        settings = {name: getattr(self, name) for name in SETTINGS}
        settings["dense"] = [dict(layer) for layer in self.dense]
        return {**settings, "prompts": dict(self.prompts)}

    def description(self) -> dict[str, Any]:
        """What decides embeddings, beside the weights, in JSON's types."""
        return {
            "tokenizer": tokenizer_config(self.tokenizer),
            "dtype": self.precision,
            **self.settings(),
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "tokenizer": tokenizer_config(self.tokenizer),
            **self.settings(),
            "static_shapes": self.static_shapes,
        }

    @classmethod
    def from_config(cls: type[E], config: dict[str, Any]) -> E:
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(config["backbone"])
        config["tokenizer"] = tokenizer_from_config(config["tokenizer"])
        return cls(**config)

    def save_to_preset(self, path: str) -> None:
        """Writes the model to a directory, whole or not at all.

        The directory is a KerasHub preset (backbone and tokenizer load with
        KerasHub alone) with SimCSE's head and settings beside it.

        Args:
            path: string. The directory; an older one is replaced.

        Raises:
            OSError: If it cannot be written; an older one is then still there.

        Example:

        ```python
        model.save_to_preset("models/mine")
        SimCSE.from_preset("models/mine")
        ```
        """
        with atomic_directory(path) as directory:
            preset_io.write_preset(self, directory)

    @classmethod
    def from_preset(
        cls: type[E],
        preset: str,
        *,
        head_init: str = "pretrained",
        dropout: float | None = None,
        dtype: str = "float32",
        prompt_name: str | None = None,
        **settings: Any,
    ) -> E:
        """Loads a model.

        Args:
            preset: string. A directory that `save_to_preset` wrote, a KerasHub
                preset name or handle, a directory in the format of KerasHub,
                transformers or sentence-transformers, `hf://ORG/NAME[@REVISION]`,
                or `package://PACKAGE/PATH`.
            head_init: string. `"pretrained"`: the head comes from the checkpoint
                (our own head, or the backbone's pooler, which is where released
                SimCSE checkpoints keep theirs). `"random"`: a fresh one, as the
                paper starts training. Dense layers that the checkpoint has keep
                their weights. Defaults to `"pretrained"`.
            dropout: Optional float. Replaces the backbone's rate everywhere it
                applies dropout.
            dtype: string. The dtype policy to compute with. Or `"int8"`: weights in
                float32, whose matrix products `predict`, `encode` and exports compute
                in int8, on CPUs; such a model is not trained. Defaults to
                `"float32"`.
            prompt_name: Optional string. Which of the checkpoint's named prompts is
                put before every text. Defaults to `None`: the one that it uses.
            **settings: Constructor arguments that override the checkpoint's own
                or, where it has none, the defaults: `pooling`, `max_length`, ...

        Raises:
            UserError: If there is no such model, it cannot be loaded, its weights are
                not finite, or a setting does not fit it.

        Example:

        ```python
        model = SimCSE.from_preset("runs/sup/best", max_length=64)
        ```
        """
        if dtype == INT8:
            check_int8()
        overrides = {} if dropout is None else {"dropout": dropout}
        given = {key: value for key, value in settings.items() if value is not None}
        checkpoint = load_checkpoint(
            preset,
            pooling=given.get("pooling"),
            prompt_name=prompt_name,
            dtype="float32" if dtype == INT8 else dtype,
            **overrides,
        )
        model = cls(
            checkpoint.backbone, checkpoint.tokenizer, **(checkpoint.settings | given)
        )
        model.preset, model.reading = checkpoint.preset, checkpoint.reading
        if model.dense and "dense" not in given:
            head_init = "pretrained"
        preset_io.initialize_heads(model.heads(), head_init, checkpoint)
        check_variables(model.weights, f"the weights of {preset}")
        if dtype == INT8:
            model.agreement = use_int8(model)
        return model

    def heads(self) -> list[keras.layers.Layer]:
        """The heads to initialize after loading."""
        return [self.head] if self.head is not None else []


def _checked_length(max_length: int, backbone: keras_hub.models.Backbone) -> int:
    limit = longest_input(backbone)
    if not 2 <= max_length <= limit:
        raise UserError(
            f"max_length must be between 2 and {limit}, the backbone's own limit; "
            f"received {max_length}"
        )
    return max_length
