"""The model by name: which versions are loaded, and which one a request means."""

import contextlib
from collections.abc import Iterable, Iterator

from tensorflow_serving.apis import model_pb2

from simcse_tf.server import rejections
from simcse_tf.server.servable import Servable


class Catalog:
    """The loaded versions of one model.

    Args:
        name: The model's name in requests.
        servables: The versions, at least one.
    """

    def __init__(self, name: str, servables: Iterable[Servable]):
        self.name = name
        self._servables = {servable.version: servable for servable in servables}

    def find(self, spec: model_pb2.ModelSpec) -> Servable:
        """Returns the version that a request asks for, the newest by default.

        Args:
            spec: Model name and, optionally, a version.

        Raises:
            tf.errors.InvalidArgumentError: No name, or a version label.
            tf.errors.NotFoundError: Another name, or a version not loaded.
        """
        if not spec.name:
            raise rejections.invalid("ModelSpec has no name specified.")
        versions = self._matching(spec)
        if not versions:
            raise rejections.not_found(
                f"Servable not found for request: {_described(spec)}"
            )
        return self._servables[max(versions)]

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """Keeps the version that a request asks for loaded.

        Args:
            spec: As for `find`.

        Yields:
            The version.
        """
        yield self.find(spec)

    def available(self, spec: model_pb2.ModelSpec) -> list[int]:
        """Returns the loaded versions that `spec` names, newest first.

        Args:
            spec: Model name and, optionally, a version.

        Raises:
            tf.errors.InvalidArgumentError: A version label.
            tf.errors.NotFoundError: There is none.
        """
        versions = self._matching(spec)
        if not versions and spec.HasField("version"):
            version = spec.version.value
            raise rejections.not_found(
                f"Could not find version {version} of model {spec.name}"
            )
        if not versions:
            raise rejections.not_found(
                f"Could not find any versions of model {spec.name}"
            )
        return sorted(versions, reverse=True)

    def _matching(self, spec: model_pb2.ModelSpec) -> set[int]:
        if spec.HasField("version_label"):
            raise rejections.invalid(
                f"Unrecognized servable version label: {spec.version_label}"
            )
        if spec.name != self.name:
            return set()
        if spec.HasField("version"):
            return self._servables.keys() & {spec.version.value}
        return set(self._servables)


def _described(spec: model_pb2.ModelSpec) -> str:
    if spec.HasField("version"):
        return f"Specific({spec.name}, {spec.version.value})"
    return f"Latest({spec.name})"
