"""Which versions of a model are served. Needs no TensorFlow."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow_serving.config import model_server_config_pb2

# The one kind of models that is served.
PLATFORM = "tensorflow"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The versions of a model that are served, as TF Serving's config names them.

    Args:
        name: Its name in requests.
        base_path: The directory that holds the version directories.
        latest: How many of the newest versions; None for all.
        specific: These versions, in place of the newest ones; empty for none.
        labels: A version's number by its label.

    Example:
    ```python
    ModelConfig("simcse", Path("exports/simcse"), labels={"stable": 1})
    ```
    """

    name: str
    base_path: Path
    latest: int | None = 1
    specific: tuple[int, ...] = ()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_proto(cls, proto: "model_server_config_pb2.ModelConfig") -> "ModelConfig":
        """Reads a `ModelConfig` of TF Serving's `model_server_config.proto`."""
        policy = proto.model_version_policy
        latest = None if policy.HasField("all") else policy.latest.num_versions or 1
        return cls(
            proto.name,
            Path(proto.base_path),
            latest,
            tuple(policy.specific.versions),
            dict(proto.version_labels),
        )

    def wanted(self, numbers: list[int]) -> list[int]:
        """Chooses, out of versions that can be loaded, those to serve.

        Args:
            numbers: The versions, in rising order.
        """
        if chosen := frozenset(self.specific):
            return [number for number in numbers if number in chosen]
        return numbers if self.latest is None else numbers[-self.latest :]
