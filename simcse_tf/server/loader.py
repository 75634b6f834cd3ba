"""Loads the versions of a model that its base directory holds, as they change."""

import asyncio
import dataclasses
import gc
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.core.printing import one_line
from simcse_tf.server import status_errors
from simcse_tf.server.catalog import ServedModel
from simcse_tf.server.model_config import ModelConfig
from simcse_tf.server.servable import Servable
from simcse_tf.server.versions import (
    Snapshot,
    holds_graph,
    newest_version,
    numbered,
    snapshot,
)

R = TypeVar("R")

# A failure may pass: memory was short, or a disk did not answer. As TF Serving does.
RETRIES = 5
RETRY_SECONDS = 60.0

_MOST_LISTED = 10
_MOST_WATCHED = 100  # of thousands of versions, each look would take seconds

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class _Failure:
    """A version that could not be loaded, and the state of its files then."""

    files: Snapshot
    attempts: int
    retry_at: float


class Loader:
    """Loads new versions and retires old ones.

    A version is available once it has loaded and answered its warmup requests. One that
    fails is loaded again when its files change, and otherwise five times, a minute
    apart: meanwhile an older one is served in its place. No version is retired before
    another one is available, and none when the base directory holds no version any
    more.

    Args:
        model: The model whose versions are kept up to date.
        config: Which versions to serve; `take` replaces it.
        load: Loads a version and makes it ready for requests; called in a thread.
        executor: One thread to load in, so that versions load one after the other.
        new_labels: Whether a label that is new may name a version that is not
            available; one in use moves to available versions only.

    Example:
    ```python
    loader = Loader(model, config, load, ThreadPoolExecutor(1))
    await loader.start()
    model.available()  # [1]
    ```
    """

    def __init__(
        self,
        model: ServedModel,
        config: ModelConfig,
        load: Callable[[int, Path], Servable],
        executor: Executor,
        new_labels: bool = False,
    ):
        self.config = config
        self._model = model
        self._load = load
        self._executor = executor
        self._new_labels = new_labels
        self._failed: dict[int, _Failure] = {}
        self._told: dict[int, str] = {}
        self._seen: dict[int, Snapshot] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._last_error = ""

    async def start(self) -> None:
        """Loads the versions that the base directory holds.

        Raises:
            UserError: There is no version, none that can be served, or labels are not
                allowed at a start.
        """
        try:
            self.check_labels(self.config)
        except tf.errors.FailedPreconditionError as error:
            raise UserError(
                f"{error.message}: no version is at a start; see "
                f"--allow_version_labels_for_unavailable_models"
            ) from None
        self.take(self.config)
        await self._update(settled=False)

    def check_labels(self, config: ModelConfig) -> None:
        """Checks that the labels of a config may be taken over.

        Raises:
            tf.errors.FailedPreconditionError: A label may not name its version now.
        """
        available = self._model.available()
        for label, number in config.labels.items():
            is_new = self._model.labels.get(label, number) == number
            if number not in available and not (is_new and self._new_labels):
                raise status_errors.failed_precondition(
                    f"Request to assign label to version {number} of model "
                    f"{config.name}, which is not currently available for inference"
                )

    def take(self, config: ModelConfig) -> None:
        """Takes over a config: its labels now, its versions at the next looks."""
        self.config = config
        self._model.labels = config.labels

    async def update(self) -> None:
        """Follows the base directory; a version that is still being written waits."""
        try:
            await self._update(settled=True)
            self._last_error = ""
        except UserError as error:
            if str(error) != self._last_error:  # once, not at every look
                logger.error("%s: %s", self._model.name, error)
            self._last_error = str(error)
        except Exception:
            # Whatever the cause is, the next look may succeed.
            logger.exception("%s: cannot look for versions", self._model.name)

    async def _update(self, settled: bool) -> None:
        config = self.config
        before, loaded = self._seen, self._model.available()
        whole, unwritten, self._seen = await self._in_thread(_look, config, loaded)
        for known in (self._failed, self._told):
            for number in known.keys() - whole.keys() - set(unwritten):
                del known[number]
        errors = await self._load_missing(config, whole, before if settled else None)
        self._retire_all_but(config.wanted([*whole]))
        if not self._model.available():
            raise await self._nothing_to_serve(config, errors)
        for number, error in errors.items():
            self._tell(logging.ERROR, number, error)
        for number in unwritten:
            self._tell(logging.WARNING, number, "no saved_model.pb in it yet")

    async def _load_missing(
        self,
        config: ModelConfig,
        whole: dict[int, Path],
        before: dict[int, Snapshot] | None,
    ) -> dict[int, str]:
        """Loads what is wanted, newest first; an older version moves up for one that
        fails or is still being written, which is taken out of `whole`."""
        errors: dict[int, str] = {}
        while (number := self._missing(config.wanted([*whole]))) is not None:
            path = whole[number]
            if number not in self._seen:
                self._seen[number] = await self._in_thread(snapshot, path)
            files = self._seen[number]
            is_written = before is None or before.get(number) == files
            if not is_written or self._is_put_off(number, files):
                del whole[number]
            elif error := await self._load_version(number, path, files):
                del whole[number]
                errors[number] = error
        return errors

    def _missing(self, wanted: list[int]) -> int | None:
        available = self._model.available()
        return next((n for n in reversed(wanted) if n not in available), None)

    def _is_put_off(self, number: int, files: Snapshot) -> bool:
        if any(task.get_name() == str(number) for task in self._retiring):
            return True  # the next look loads it
        failure = self._failed.get(number)
        if failure is None or failure.files != files:
            self._failed.pop(number, None)
            return False
        now = asyncio.get_running_loop().time()
        return failure.attempts > RETRIES or now < failure.retry_at

    async def _load_version(
        self, number: int, path: Path, files: Snapshot
    ) -> str | None:
        """Publishes a version, or returns why it cannot be loaded."""
        self._model.mark_loading(number)
        try:
            servable = await self._in_thread(self._load, number, path)
        except Exception as error:
            failed = self._failed.get(number)
            self._failed[number] = _Failure(
                files,
                failed.attempts + 1 if failed else 1,
                asyncio.get_running_loop().time() + RETRY_SECONDS,
            )
            self._model.mark_failed(number)
            return one_line(str(error) or type(error).__name__)
        self._failed.pop(number, None)
        self._told.pop(number, None)
        if self._model.available():  # the server announces the first one
            logger.info("%s version %d is available", self._model.name, number)
        self._model.publish(servable)
        return None

    async def _nothing_to_serve(
        self, config: ModelConfig, errors: dict[int, str]
    ) -> UserError:
        if errors:
            number, error = next(iter(errors.items()))
            more = f"; nor can {len(errors) - 1} more" if len(errors) > 1 else ""
            return UserError(f"{config.name} version {number}: {error}{more}")
        # Raises the cause, if it is there.
        await self._in_thread(newest_version, config.base_path)
        there = [*await self._in_thread(numbered, config.base_path)]
        return UserError(
            f"{config.name}: expected a version out of {[*config.specific] or 'any'} "
            f"in {config.base_path}, received {there[-_MOST_LISTED:]}"
        )

    def _tell(self, level: int, number: int, message: str) -> None:
        if self._told.get(number) != message:  # once, not at every look
            logger.log(level, "%s version %d: %s", self._model.name, number, message)
        self._told[number] = message

    def _retire_all_but(self, wanted: list[int]) -> None:
        available = self._model.available()
        if not set(wanted) & set(available):
            return
        for number in set(available) - set(wanted):
            task = asyncio.create_task(self._retire(number), name=str(number))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _retire(self, number: int) -> None:
        await self._model.retire(number)
        # A SavedModel is full of reference cycles: without this its weights stay.
        await self._in_thread(gc.collect)
        logger.info("%s version %d is unloaded", self._model.name, number)

    async def _in_thread(self, work: Callable[..., R], *arguments: object) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, work, *arguments)


def _look(
    config: ModelConfig, loaded: list[int]
) -> tuple[dict[int, Path], list[int], dict[int, Snapshot]]:
    """The versions by number, in rising order; those that are wanted, but have no
    `saved_model.pb` yet; and the files of those that may be loaded next."""
    found = numbered(config.base_path)
    whole = {number: path for number, path in found.items() if holds_graph(path)}
    unwritten = [
        number
        for number in sorted(found.keys() - whole.keys())[-_MOST_WATCHED:]
        if number in config.wanted(sorted([*whole, number]))
    ]
    watched = {*[*whole][-_MOST_WATCHED:], *config.specific} & whole.keys()
    seen = {number: snapshot(whole[number]) for number in watched - {*loaded}}
    return whole, unwritten, seen
