"""The JSON config of a training run: typed, validated, with defaults."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import (
    MAX_DEPTH,
    NotJson,
    parse_json,
    read_json,
    shortened,
    shown,
)
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

    def settings(self) -> dict[str, Any]:
        """The arguments of `SimCSE.from_preset`."""
        return self.model_dump()


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


class Config(Section):
    """Everything that decides a training run.

    The sections and keys are those of the JSON file; an attribute's value is the
    file's or the default.

    Example:

    ```python
    config = load_config("configs/sup.json")
    config.training.batch_size  # 512
    ```
    """

    model: ModelConfig
    objective: ObjectiveConfig = ObjectiveConfig()
    data: DataConfig
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    output_dir: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _keys_fit_together(self) -> "Config":
        own_positive = (
            self.objective.kind == "contrastive" and self.data.augmentation == "none"
        )
        shared = self.model.encoders == "shared"
        if self.objective.kind == "next_sentence" and self.data.augmentation != "none":
            raise ValueError(
                "data.augmentation: expected none with objective.kind next_sentence, "
                "whose positives are other sentences; received "
                f"{self.data.augmentation}"
            )
        if self.objective.same_mask and not (own_positive and shared):
            raise ValueError(
                "objective.same_mask: two passes share a mask where one encoder reads "
                "the same sentence twice; expected objective.kind contrastive, "
                "data.augmentation none and model.encoders shared"
            )
        if self.objective.mlm_weight and not shared:
            raise ValueError(
                "objective.mlm_weight: expected 0 with model.encoders dual, received "
                f"{self.objective.mlm_weight}"
            )
        if self.objective.mlm_weight and self.training.compile == "xla":
            raise ValueError(
                "training.compile: XLA compiles steps of static shapes, and how many "
                "tokens objective.mlm_weight hides depends on the data; expected auto "
                "or none, received xla"
            )
        if self.evaluation.geometry_every and not self.data.evaluation:
            raise ValueError(
                "evaluation.geometry_every: needs STS-B's dev pairs, and "
                "data.evaluation is null"
            )
        return self

    def to_json(self) -> str:
        """The config as JSON text, every default written out."""
        return self.model_dump_json(indent=2) + "\n"

    def flat(self, exclude_unset: bool = False) -> dict[str, Any]:
        """The values by their whole keys, such as `"model.pooling"`.

        Args:
            exclude_unset: bool. Whether to leave out keys that are at their default
                because nothing gave them. Defaults to `False`.
        """
        return dict(_flattened(self.model_dump(exclude_unset=exclude_unset)))


def load_config(path: str, overrides: Sequence[str] = ()) -> Config:
    """Reads and validates a config file.

    Args:
        path: string. A JSON file.
        overrides: Strings of the form `section.key=value`, applied over the file;
            the value is read as JSON, or as a plain string where it is none.

    Returns:
        A `Config`.

    Raises:
        UserError: If the file is missing or no JSON object, a key is unknown (the
            nearest known one is named) or a value is not what the key takes.

    Example:

    ```python
    load_config("configs/sup.json", ["training.epochs=1"]).training.epochs  # 1
    ```
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object, received {shown(values)}")
    for override in overrides:
        _apply(values, override)
    return parse_config(values, path)


def parse_config(values: dict[str, Any], source: str = "config") -> Config:
    """Validates a config given as a dictionary; see `load_config`.

    Example:

    ```python
    parse_config(json.loads(Path("configs/sup.json").read_text()))
    ```
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{source}: {_explain(error)}") from None


def _flattened(
    values: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {shortened(override)}: expected section.key=value")
    *sections, last = key.split(".", MAX_DEPTH)
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(
                f"--set {shortened(override)}: {shortened(section)} has no keys of its "
                "own"
            )
    try:
        values[last] = parse_json(text, f"--set {shortened(key)}")
    except NotJson:
        values[last] = text


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = shortened(".".join(map(str, first["loc"])))
    if first["type"] == "extra_forbidden":
        nearest = get_close_matches(key, _known_keys(), n=1, cutoff=0.0)
        return f"unknown key {key} (did you mean {nearest[0]}?)"
    if first["type"] == "missing":
        return f"{key} is missing"
    if first["type"] == "value_error":
        # The key is a section's name. A message about several sections names its keys.
        return ": ".join(filter(None, (key, str(first["ctx"]["error"]))))
    message = first["msg"].removeprefix("Input should be ")
    return f"{key}: expected {message}, received {shown(first['input'])}"


def _known_keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _known_keys(field.annotation, f"{prefix}{name}.")
