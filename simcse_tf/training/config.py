"""The JSON config of a training run: typed, validated, with defaults."""

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import (
    MAX_DEPTH,
    NotJson,
    parse_json,
    read_json,
    shortened,
    shown,
)
from simcse_tf.training.config_sections import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    ObjectiveConfig,
    Section,
    TrainingConfig,
)

# What keys with another default meant before there were such keys, as JSON: a run that
# an older version began goes on so.
_BEFORE = {"objective.mask_duplicates": "false"}


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
        named = self.data.columns is not None or self.data.quoting is not None
        if self.objective.kind == "next_sentence" and named:
            raise ValueError(
                "data.columns, data.quoting: expected null with objective.kind "
                "next_sentence, whose files are text, a sentence a line"
            )
        if self.objective.same_mask and not (own_positive and shared):
            raise ValueError(
                "objective.same_mask: two passes share a mask where one encoder reads "
                "the same sentence twice; expected objective.kind contrastive, "
                "data.augmentation none and model.encoders shared"
            )
        if self.objective.scored and not shared:
            raise ValueError(
                "model.encoders: expected shared with objective.kind "
                f"{self.objective.kind}: one encoder reads both texts of a pair, "
                f"received {self.model.encoders}"
            )
        if self.objective.false_negative_guide and self.data.augmentation != "none":
            raise ValueError(
                "objective.false_negative_guide: a guide embeds the texts before "
                "training, and positives are made in it; expected null, or "
                f"data.augmentation none, received {self.data.augmentation}"
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


def load_begun(path: str) -> Config:
    """Reads the config of a run, which an older version may have written.

    Args:
        path: string. A run's `config.json`.

    Returns:
        A `Config`: what the run does, also where its version had no key for it.

    Raises:
        UserError: As `load_config`.

    Example:

    ```python
    load_begun("runs/mine/config.json").objective.mask_duplicates
    ```
    """
    given = load_config(path).flat(exclude_unset=True)
    before = (f"{key}={value}" for key, value in _BEFORE.items() if key not in given)
    return load_config(path, list(before))


def as_begun(config: Config, begun: Config) -> Config:
    """The config with which a run goes on.

    Args:
        config: The one that the user gives.
        begun: The run's own; see `load_begun`.

    Returns:
        `config`. Keys that older versions did not have, and that it does not name, are
        as they were when the run began.

    Example:

    ```python
    config = as_begun(config, RunDirectory(config.output_dir).config)
    ```
    """
    given, values = (
        config.flat(exclude_unset=True),
        config.model_dump(exclude_unset=True),
    )
    for key in _BEFORE.keys() - given.keys():
        _apply(values, f"{key}={json.dumps(begun.flat()[key])}")
    return parse_config(values)


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
        # A run's own copy names each section that it lacks: null.
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
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
        # A section that may be null is one of a union.
        for kind in get_args(field.annotation) or [field.annotation]:
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from _known_keys(kind, f"{prefix}{name}.")
