"""Loads the versions of a model that its base directory holds, as they change."""

import asyncio
import gc
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from simcse_tf.core.errors import UserError
from simcse_tf.server.catalog import ServedModel
from simcse_tf.server.model_config import ModelConfig
from simcse_tf.server.servable import Servable
from simcse_tf.server.versions import Snapshot, newest_version, snapshot, versions

R = TypeVar("R")

logger = logging.getLogger(__name__)


class Loader:
    """Loads new versions and retires old ones.

    A version is available once it has loaded and answered its warmup requests. One that
    fails is ignored until its files change: an older one is served in its place. No
    version is retired before another one is available, and none when the base directory
    holds no version any more.

    Args:
        model: The model whose versions are kept up to date.
        config: Which versions to serve; may be replaced while running.
        load: Loads a version and makes it ready for requests; called in a thread.
        executor: One thread to load in, so that versions load one after the other.
        any_label: Whether a label may name a version that is not available.

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
        any_label: bool = False,
    ):
        self.config = config
        self._model = model
        self._load = load
        self._executor = executor
        self._any_label = any_label
        self._failed: dict[int, Snapshot] = {}
        self._seen: dict[int, Snapshot] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._last_error = ""

    async def start(self) -> None:
        """Loads the versions that the base directory holds.

        Raises:
            UserError: There is no version, none that can be served, or a label names
                a version that is not served.
        """
        await self._update(settled=False)

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
        on_disk = await self._in_thread(self._candidates, settled)
        errors = []
        for number, path in sorted(on_disk.items(), reverse=True):
            # Failures change what is wanted: an older version moves up.
            ready = [n for n in sorted(on_disk) if n not in self._failed]
            if number in self.config.wanted(ready) and not self._is_loaded(number):
                errors += await self._load_version(number, path)
        ready = [n for n in sorted(on_disk) if n not in self._failed]
        self._retire_all_but(self.config.wanted(ready))
        if not self._model.available():
            newest_version(self.config.base_path)  # raises the cause, if it is there
            wanted = [*self.config.specific] or "any"
            raise next(iter(errors), None) or UserError(
                f"{self.config.name}: expected a version out of {wanted} in "
                f"{self.config.base_path}, received {[*on_disk]}"
            )
        for error in errors:
            logger.error("%s: %s", self._model.name, error)
        self._set_labels()

    def _candidates(self, settled: bool) -> dict[int, Path]:
        found = versions(self.config.base_path)
        prints = {
            number: snapshot(path)
            for number, path in found.items()
            if not self._is_loaded(number)
        }
        for number, print_ in list(self._failed.items()):
            if prints.get(number) != print_:
                del self._failed[number]
        before, self._seen = self._seen, prints
        return {
            number: path
            for number, path in found.items()
            if not settled
            or number not in prints
            or before.get(number) == prints[number]
        }

    def _is_loaded(self, number: int) -> bool:
        return number in self._model.available()

    async def _load_version(self, number: int, path: Path) -> list[UserError]:
        if any(task.get_name() == str(number) for task in self._retiring):
            return []  # the next look loads it
        self._model.mark_loading(number)
        try:
            servable = await self._in_thread(self._load, number, path)
        except UserError as error:
            self._failed[number] = self._seen[number]
            self._model.mark_failed(number, str(error))
            return [error]
        if self._model.available():  # the server announces the first one
            logger.info("%s version %d is available", self._model.name, number)
        self._model.publish(servable)
        return []

    def _set_labels(self) -> None:
        available = self._model.available()
        for label, number in self.config.labels.items():
            if number not in available and not self._any_label:
                raise UserError(
                    f"label {label}: expected an available version of "
                    f"{self.config.name}, one of {available}, received {number}; see "
                    f"--allow_version_labels_for_unavailable_models"
                )
        self._model.labels = self.config.labels

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
