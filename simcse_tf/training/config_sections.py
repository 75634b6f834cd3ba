"""The sections of a run's config: keys, types, bounds and defaults."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    model_validator,
)

from simcse_tf.core.json_files import shown
from simcse_tf.data.columns import check_columns
from simcse_tf.data.named import entries
from simcse_tf.encoders.pooling import poolers_of
from simcse_tf.objectives.defaults import (
    DISTILLATION_WEIGHT,
    HARD_NEGATIVE_WEIGHT,
    MASK_DUPLICATES,
    MLM_PROBABILITY,
    MOMENTUM,
    SCORED_KINDS,
    TEMPERATURE,
)


class Section(BaseModel):
    # strict: "0.1" is no number and 1 no boolean, so a slip is reported, not guessed.
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _within(low: float, high: float) -> AfterValidator:
    """Bounds, of which a message tells both.

    Where a number beyond them might mean something, float32 would make it 0, infinity
    or 1, or the step would.
    """

    def check(value: float) -> float:
        if low <= value <= high:
            return value
        raise ValueError(f"expected {low} to {high}, received {shown(value)}")

    return AfterValidator(check)


_MOST = 2**31 - 1
Count = Annotated[int, _within(1, _MOST)]
Share = Annotated[float, _within(0.001, 0.999)]
Seed = Annotated[int, _within(0, _MOST)]


def _known_pooling(pooling: str) -> str:
    poolers_of(pooling)
    return pooling


Pooling = Annotated[str, AfterValidator(_known_pooling)]


class ModelConfig(Section):
    preset: Annotated[str, Field(min_length=1)]
    pooling: Pooling = "cls"
    head_init: Literal["random", "pretrained"] = "random"
    head_in_inference: bool = True
    dropout: Annotated[float, _within(0, 0.99)] = 0.1
    max_length: Annotated[int, _within(3, _MOST)] = 32
    encoders: Literal["shared", "dual"] = "shared"

    def settings(self) -> dict[str, Any]:
        """The arguments of `SimCSE.from_preset`."""
        return self.model_dump()


class TeacherConfig(Section):
    model: Annotated[str, Field(min_length=1)]
    loss: Literal["listnet", "listmle", "embedding", "score"] = "listnet"
    weight: Annotated[float, _within(0.0001, 1000)] = DISTILLATION_WEIGHT
    temperature: Annotated[float, _within(0.0001, 1000)] = TEMPERATURE
    pooling: Pooling | None = None
    max_length: Annotated[int, _within(3, _MOST)] | None = None
    prompt: str | None = None


# Keys that mean something where a batch has negatives, and what they are elsewhere.
_OF_NEGATIVES = {
    "hard_negative_weight": HARD_NEGATIVE_WEIGHT,
    "false_negative_margin": None,
    "queue_size": None,
    "mix_negatives": None,
    "consistency_weight": 0.0,
}


class ObjectiveConfig(Section):
    kind: Literal["contrastive", "next_sentence", "cosent", "angle"] = "contrastive"
    next_k: Count = 1
    same_mask: bool = False
    temperature: Annotated[float, _within(0.0001, 1000)] = TEMPERATURE
    hard_negative_weight: Annotated[float, _within(-1000, 1000)] = HARD_NEGATIVE_WEIGHT
    mask_duplicates: bool = MASK_DUPLICATES
    false_negative_margin: Annotated[float, _within(-1, 1)] | None = None
    false_negative_guide: Annotated[str, Field(min_length=1)] | None = None
    queue_size: Count | None = None
    momentum: Annotated[float, _within(0, 1)] = MOMENTUM
    mix_negatives: Share | None = None
    matryoshka: list[Count] | None = None
    matryoshka_weights: list[Annotated[float, _within(0, 1000)]] | None = None
    mlm_weight: Annotated[float, _within(0, 1000)] = 0.0
    mlm_probability: Share = MLM_PROBABILITY
    consistency_weight: Annotated[float, _within(0, 1000)] = 0.0
    teacher: TeacherConfig | None = None

    @property
    def scored(self) -> bool:
        """Whether it is trained on pairs with scores."""
        return self.kind in SCORED_KINDS

    @model_validator(mode="after")
    def _queue_and_scores_fit(self) -> "ObjectiveConfig":
        for key, default in _OF_NEGATIVES.items():
            value = getattr(self, key)
            if self.scored and value != default:
                raise ValueError(
                    f"{key}: expected {shown(default)} with kind {self.kind}, whose "
                    f"pairs with scores have no negatives, received {shown(value)}"
                )
        if self.queue_size is None and self.momentum != MOMENTUM:
            raise ValueError(
                "momentum: the encoder that fills the queue has it; expected "
                f"{MOMENTUM} where queue_size is null, received {self.momentum}"
            )
        return self

    @model_validator(mode="after")
    def _keys_fit_together(self) -> "ObjectiveConfig":
        if self.false_negative_guide and self.false_negative_margin is None:
            raise ValueError(
                "false_negative_guide: expected null without false_negative_margin, "
                f"received {shown(self.false_negative_guide)}"
            )
        dims, weights = self.matryoshka or [], self.matryoshka_weights
        if (self.matryoshka is not None and not dims) or len(set(dims)) < len(dims):
            raise ValueError(
                "matryoshka: expected null or different numbers of dimensions, "
                f"received {dims}"
            )
        if weights is not None and (len(weights) != len(dims) or not any(weights)):
            raise ValueError(
                "matryoshka_weights: expected null, or a weight for each of "
                f"matryoshka {shown(self.matryoshka)}, not all 0; received {weights}"
            )
        return self


def _known_columns(columns: Any) -> Any:
    if columns is not None:
        check_columns(columns)
    return columns


def _known_train(train: Any) -> Any:
    entries(train)
    return train


class DataConfig(Section):
    train: Annotated[
        str | list[str | dict[str, str | float]], PlainValidator(_known_train)
    ]
    columns: Annotated[
        dict[str, str | list[str]] | None, PlainValidator(_known_columns)
    ] = None
    quoting: Literal["quoted", "none"] | None = None
    shuffle: bool = True
    no_duplicates: bool = False
    seed: Seed = 42
    augmentation: Literal[
        "none",
        "crop",
        "word_deletion",
        "delete_one_word",
        "word_repetition",
        "synonym",
        "mlm",
    ] = "none"
    augmentation_rate: Share = 0.1
    augmentation_model: str | None = None
    evaluation: str | None = None


class EvaluationConfig(Section):
    geometry_every: Count | None = None
    test: bool = True


class TrainingConfig(Section):
    epochs: Count = 3
    # A batch of one has no negatives.
    batch_size: Annotated[int, _within(2, 2**20)] = 512
    micro_batch_size: Count | None = None
    learning_rate: Annotated[float, _within(1e-12, 10)] = 5e-5
    warmup_steps: Annotated[int, _within(0, _MOST)] = 0
    max_steps: Count | None = None
    weight_decay: Annotated[float, _within(0, 10)] = 0.0
    clip_norm: Annotated[float, _within(1e-6, 1_000_000)] | None = 1.0
    lora_rank: Annotated[int, _within(1, 4096)] | None = None
    lora_alpha: Annotated[float, _within(0.001, 100_000)] | None = None
    lora_targets: list[
        Literal["query", "key", "value", "attention_output", "intermediate", "output"]
    ] = ["query", "value"]
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    compile: Literal["auto", "xla", "none"] = "auto"
    strategy: Literal["auto", "none", "mirrored", "multi_worker", "tpu"] = "auto"
    tpu: str | None = None
    evaluate_every: Count = 125
    checkpoint_every: Count = 500
    keep: Count = 1
    seed: Seed = 42

    @model_validator(mode="after")
    def _lora_is_whole(self) -> "TrainingConfig":
        if self.lora_alpha is not None and self.lora_rank is None:
            raise ValueError(
                "lora_alpha scales what lora_rank adds; expected null without a "
                f"lora_rank, received {self.lora_alpha}"
            )
        names = self.lora_targets
        if not names or len(set(names)) < len(names):
            raise ValueError(
                "lora_targets: expected different names of matrices, at least one, "
                f"received {shown(names)}"
            )
        return self

    @model_validator(mode="after")
    def _tpu_is_named(self) -> "TrainingConfig":
        if (self.tpu is not None) != (self.strategy == "tpu"):
            raise ValueError(
                "tpu names the TPU of strategy tpu (local on a TPU VM) and is null for "
                f"the others; received tpu {shown(self.tpu)} with strategy "
                f"{self.strategy}"
            )
        return self
