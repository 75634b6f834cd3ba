"""The sections of a run's config: keys, types, bounds and defaults."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shown
from simcse_tf.encoders.pooling import poolers_of
from simcse_tf.objectives.defaults import (
    HARD_NEGATIVE_WEIGHT,
    MLM_PROBABILITY,
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
    prompts: dict[str, str] | None = None
    prompt: str | None = None

    def settings(self) -> dict[str, Any]:
        """The arguments of `SimCSE.from_preset`."""
        settings = self.model_dump()
        if self.prompts is not None:
            # Those of the checkpoint are replaced, with the one that it uses.
            settings["prompt"] = self.prompts[self.prompt] if self.prompt else ""
        return settings

    def column_prompts(self, columns: int) -> tuple[str, str] | None:
        """The prompts of anchors and of all others, if they have prompts of their own.

        Args:
            columns: int. Columns of the training data.

        Raises:
            UserError: If the data are single sentences, which have one prompt.
        """
        prompts = self.prompts or {}
        if not prompts.keys() & {"query", "document"}:
            return None
        default = prompts[self.prompt] if self.prompt else ""
        if columns > 1:
            return prompts.get("query", default), prompts.get("document", default)
        if self.prompt is None:
            raise UserError(
                "model.prompts: query and document are for anchors and positives, and "
                "data.train holds single sentences: expected model.prompt, the name of "
                f"the one that stands before all of them ({', '.join(prompts)})"
            )
        return None


class ObjectiveConfig(Section):
    kind: Literal["contrastive", "next_sentence"] = "contrastive"
    next_k: Count = 1
    same_mask: bool = False
    temperature: Annotated[float, _within(0.0001, 1000)] = TEMPERATURE
    hard_negative_weight: Annotated[float, _within(-1000, 1000)] = HARD_NEGATIVE_WEIGHT
    mlm_weight: Annotated[float, _within(0, 1000)] = 0.0
    mlm_probability: Share = MLM_PROBABILITY


class DataConfig(Section):
    train: Annotated[str, Field(min_length=1)]
    shuffle: bool = True
    seed: Seed = 42
    augmentation: Literal[
        "none", "crop", "word_deletion", "delete_one_word", "synonym", "mlm"
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
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    compile: Literal["auto", "xla", "none"] = "auto"
    strategy: Literal["auto", "none", "mirrored", "multi_worker", "tpu"] = "auto"
    tpu: str | None = None
    evaluate_every: Count = 125
    checkpoint_every: Count = 500
    keep: Count = 1
    seed: Seed = 42

    @model_validator(mode="after")
    def _tpu_is_named(self) -> "TrainingConfig":
        if (self.tpu is not None) != (self.strategy == "tpu"):
            raise ValueError(
                "tpu names the TPU of strategy tpu (local on a TPU VM) and is null for "
                f"the others; received tpu {shown(self.tpu)} with strategy "
                f"{self.strategy}"
            )
        return self
