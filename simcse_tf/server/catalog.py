"""The models by name: which versions there are, and which one a request means.

The objects of these classes belong to one event loop.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, model_pb2

from simcse_tf.core.request_context import note
from simcse_tf.server import status_errors
from simcse_tf.server.servable import Servable

State = get_model_status_pb2.ModelVersionStatus.State

# What clients are told. The log has the cause, which names paths of the server.
NOT_LOADED = "the version cannot be loaded; the server's log says why"
# Versions that are not served any more and are still listed: numbers may grow for ever.
MOST_ENDED = 100


@dataclasses.dataclass(eq=False)
class ServedVersion:
    """A version of a model, loaded or not.

    Attributes:
        number: The version's number.
        state: Where it is between LOADING and END.
        error: Why it could not be loaded.
        servable: What answers requests; only while it is loaded.
    """

    number: int
    state: int = State.LOADING
    error: str = ""
    servable: Servable | None = None
    leases: int = 0
    idle: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)


class ServedModel:
    """The versions of one model.

    Args:
        name: The model's name in requests.

    Attributes:
        labels: A version's number by its label.

    Example:
    ```python
    model = ServedModel("simcse")
    model.mark_loading(1)
    model.available()  # []: version 1 is not published yet
    ```
    """

    def __init__(self, name: str):
        self.name = name
        self.labels: Mapping[str, int] = {}
        self._versions: dict[int, ServedVersion] = {}

    def mark_loading(self, number: int) -> None:
        """Records that a version is being loaded."""
        self._versions[number] = ServedVersion(number)

    def publish(self, servable: Servable) -> None:
        """Lets a loaded version answer requests."""
        version = self._versions[servable.version]
        version.servable = servable
        version.state = State.AVAILABLE

    def mark_failed(self, number: int) -> None:
        """Records that a version could not be loaded."""
        self._versions[number] = ServedVersion(number, State.END, NOT_LOADED)
        self._forget_oldest()

    async def retire(self, number: int) -> None:
        """Gives a version no new requests, waits for the others, and unloads it."""
        version = self._versions[number]
        version.state = State.UNLOADING
        if version.leases:
            await version.idle.wait()
        if version.servable:
            await version.servable.close()
        version.servable = None
        version.state = State.END
        self._forget_oldest()

    def available(self) -> list[int]:
        """Returns the versions that answer requests, newest first."""
        return sorted(
            (n for n, v in self._versions.items() if v.state == State.AVAILABLE),
            reverse=True,
        )

    def statuses(self, number: int | None = None) -> list[ServedVersion]:
        """Returns the version with this number, or all of them, newest first."""
        wanted = [v for n, v in self._versions.items() if number in (None, n)]
        return sorted(wanted, key=lambda version: version.number, reverse=True)

    def find(self, number: int | None) -> ServedVersion | None:
        """Returns a version that answers requests, by default the newest."""
        available = self.available()
        if number is None:
            return self._versions[available[0]] if available else None
        return self._versions[number] if number in available else None

    def _forget_oldest(self) -> None:
        ended = sorted(n for n, v in self._versions.items() if v.state == State.END)
        for number in ended[:-MOST_ENDED]:
            del self._versions[number]


class Catalog:
    """The models that a server has.

    Args:
        models: The models, no two with the same name.

    Example:
    ```python
    with Catalog(model).lease(model_pb2.ModelSpec(name="simcse")) as servable:
        outputs = await servable.run(request)
    ```
    """

    def __init__(self, *models: ServedModel):
        self.models = {model.name: model for model in models}

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """Keeps the version that a request asks for loaded until the block ends.

        Args:
            spec: Model name and, optionally, a version or a label; the default is
                the newest version that is available.

        Yields:
            The version.

        Raises:
            tf.errors.InvalidArgumentError: The name is missing or the label unknown.
            tf.errors.NotFoundError: The name is unknown or the version not loaded.
        """
        version = self._find(spec)
        assert version.servable
        note(model=spec.name, version=version.number)
        version.leases += 1
        try:
            yield version.servable
        finally:
            version.leases -= 1
            if not version.leases and version.state == State.UNLOADING:
                version.idle.set()

    def statuses(self, spec: model_pb2.ModelSpec) -> list[ServedVersion]:
        """Returns the versions that `spec` names, newest first, loaded or not.

        Args:
            spec: Model name and, optionally, a version or a label.

        Raises:
            tf.errors.InvalidArgumentError: The label is unknown.
            tf.errors.NotFoundError: There is no such version.
        """
        model = self.models.get(spec.name)
        number = _number(spec, model)
        found = model.statuses(number) if model else []
        if not found and number is not None:
            raise status_errors.not_found(
                f"Could not find version {number} of model {spec.name}"
            )
        if not found:
            raise status_errors.not_found(
                f"Could not find any versions of model {spec.name}"
            )
        return found

    def _find(self, spec: model_pb2.ModelSpec) -> ServedVersion:
        if not spec.name:
            raise status_errors.invalid("ModelSpec has no name specified.")
        model = self.models.get(spec.name)
        number = _number(spec, model)
        version = model.find(number) if model else None
        if version is None:
            named = "Latest" if number is None else "Specific"
            what = spec.name if number is None else f"{spec.name}, {number}"
            raise status_errors.not_found(
                f"Servable not found for request: {named}({what})"
            )
        return version


def status_code(version: ServedVersion) -> int:
    """Returns TensorFlow's code of what happened to a version.

    Example:
    ```python
    status_code(ServedVersion(1, error="out of memory")) == tf.errors.UNKNOWN
    ```
    """
    return int(tf.errors.UNKNOWN if version.error else tf.errors.OK)


def _number(spec: model_pb2.ModelSpec, model: ServedModel | None) -> int | None:
    if spec.HasField("version_label"):
        labels = model.labels if model else {}
        if spec.version_label not in labels:
            raise status_errors.invalid(
                f"Unrecognized servable version label: {spec.version_label}"
            )
        return labels[spec.version_label]
    return spec.version.value if spec.HasField("version") else None
