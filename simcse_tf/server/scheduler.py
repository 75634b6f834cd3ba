"""Decides when a request is computed: merged with others, or alone."""

import asyncio
import contextvars
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Protocol

import numpy as np

from simcse_tf.core import request_context
from simcse_tf.core.request_context import Request
from simcse_tf.core.tracing import batch_span
from simcse_tf.server import status_errors
from simcse_tf.server.batching_parameters import BatchingParameters

Arrays = Mapping[str, np.ndarray]


class BatchMetrics(Protocol):
    """Receives each batch and each change of the queue."""

    def batch(
        self,
        model_name: str,
        texts: int,
        allowed_size: int,
        queue_seconds: float,
        run_seconds: float,
    ) -> None:
        """Called after each batch, in the thread that computed it."""

    def queued(self, model_name: str, change: int) -> None:
        """Called when the queue has grown, or shrunk, by so many texts."""


@dataclasses.dataclass(eq=False, slots=True)
class _Task:
    inputs: Arrays
    rows: int
    arrival: float
    answer: asyncio.Future[Arrays]
    queued: bool = True
    request: Request | None = dataclasses.field(default_factory=request_context.current)

    @property
    def size(self) -> int:
        return max(self.rows, 1)  # a request without rows takes a place too


Outcome = tuple[_Task, Arrays | Exception]


class BatchScheduler:
    """Merges requests along their first dimension, as TF Serving does.

    Belongs to one event loop. A request is dropped without being computed when its
    deadline passes, or its caller is cancelled, before its batch starts.

    Args:
        run: Computes a batch; called in a thread of `executor`.
        parameters: Sizes, times and threads.
        executor: Where batches are computed.
        metrics: Receives each batch.
        model_name: The model's name in `metrics`.

    Example:
    ```python
    scheduler = BatchScheduler(run, BatchingParameters(), ThreadPoolExecutor(1))
    outputs = await scheduler.submit({"text": np.array([b"Yes."], object)})
    ```
    """

    def __init__(
        self,
        run: Callable[[Arrays], Arrays],
        parameters: BatchingParameters,
        executor: Executor,
        metrics: BatchMetrics | None = None,
        model_name: str = "",
    ):
        self._run = run
        self._parameters = parameters
        self._executor = executor
        self._metrics = metrics
        self._model_name = model_name
        self._queue: deque[_Task] = deque()
        self._queued = 0  # the sum of the sizes in the queue
        self._running: set[asyncio.Future[list[Outcome]]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def submit(self, inputs: Arrays, deadline: float | None = None) -> Arrays:
        """Computes one request, together with others that wait.

        Args:
            inputs: Arrays by name, all of the same first dimension.
            deadline: When to give up, in seconds of `time.monotonic()`.

        Returns:
            The request's own rows of the outputs.

        Raises:
            tf.errors.InvalidArgumentError: The inputs cannot be batched, or have
                more rows than a batch may.
            tf.errors.UnavailableError: The queue is full.
            tf.errors.DeadlineExceededError: The deadline passed first.
            tf.errors.OpError: The graph raises it for this request.
        """
        rows = _common_rows(inputs)
        loop = asyncio.get_running_loop()
        task = _Task(inputs, rows, time.monotonic(), loop.create_future())
        if deadline is not None and deadline <= task.arrival:
            raise status_errors.deadline_exceeded()
        self._check_room(task)
        self._queue.append(task)
        self._resize_queue(task.size)
        self._start_batches()
        timer = loop.call_at(deadline, _expire, task.answer) if deadline else None
        try:
            return await task.answer
        finally:
            if timer:
                timer.cancel()
            if task.queued:
                self._queue.remove(task)
                self._resize_queue(-task.size)

    async def close(self) -> None:
        """Waits for the batches that are being computed."""
        if self._timer:
            self._timer.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def _check_room(self, task: _Task) -> None:
        most = self._parameters.max_batch_size
        if task.rows > most:
            raise status_errors.invalid(
                f"Task size {task.rows} is larger than maximum input batch size {most}"
            )
        batches = self._parameters.max_enqueued_batches
        if self._queued + task.size > batches * most:
            raise status_errors.unavailable(
                f"The batch scheduling queue to which this task was submitted is full; "
                f"max_enqueued_batches is {batches}"
            )

    def _resize_queue(self, change: int) -> None:
        self._queued += change
        if self._metrics:
            self._metrics.queued(self._model_name, change)

    def _start_batches(self) -> None:
        threads = self._parameters.num_batch_threads
        while self._queue and len(self._running) < threads:
            waited = time.monotonic() - self._queue[0].arrival
            wait = self._parameters.batch_timeout_micros / 1e6 - waited
            if self._queued < self._parameters.max_batch_size and wait > 0:
                self._start_later(wait)
                return
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._executor, self._compute, self._take())
            self._running.add(work)
            work.add_done_callback(self._finish)

    def _start_later(self, seconds: float) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._wake_up)

    def _wake_up(self) -> None:
        self._timer = None
        self._start_batches()

    def _take(self) -> list[_Task]:
        tasks: list[_Task] = []
        room = self._parameters.max_batch_size
        while self._queue and self._queue[0].size <= room:
            task = self._queue.popleft()
            task.queued = False
            tasks.append(task)
            room -= task.size
        self._resize_queue(room - self._parameters.max_batch_size)
        return tasks

    def _finish(self, work: asyncio.Future[list[Outcome]]) -> None:
        self._running.remove(work)
        self._start_batches()  # first, so that no thread waits
        for task, outcome in work.result():
            if task.answer.done():
                continue
            if isinstance(outcome, Exception):
                task.answer.set_exception(outcome)
            else:
                task.answer.set_result(outcome)

    def _compute(self, tasks: list[_Task]) -> list[Outcome]:
        tasks = [task for task in tasks if not task.answer.done()]
        if not tasks:
            return []
        try:
            return list(zip(tasks, self._compute_merged(tasks), strict=True))
        except Exception as error:
            if len(tasks) == 1:
                return [(tasks[0], error)]
            # No request may fail because of what another client sent.
            return [outcome for task in tasks for outcome in self._compute([task])]

    def _compute_merged(self, tasks: list[_Task]) -> list[Arrays]:
        start = time.monotonic()
        rows = sum(task.rows for task in tasks)
        padded_rows = self._allowed(rows)
        with batch_span([(it.request, start - it.arrival) for it in tasks], rows):
            outputs = self._run(
                _merge([task.inputs for task in tasks], padded_rows - rows)
            )
        if self._metrics:
            queue_seconds = start - tasks[0].arrival
            run_seconds = time.monotonic() - start
            self._metrics.batch(
                self._model_name, rows, padded_rows, queue_seconds, run_seconds
            )
        _check_split(outputs, padded_rows)
        return _split(outputs, [task.rows for task in tasks])

    def _allowed(self, rows: int) -> int:
        if not rows:  # there is no row to repeat
            return 0
        sizes = self._parameters.allowed_batch_sizes
        return next((size for size in sizes if size >= rows), rows)


class Unbatched:
    """Computes each request by itself.

    Takes the same requests as `BatchScheduler`, and inputs that cannot be batched.

    Args:
        run: Computes a request; called in a thread of `executor`.
        executor: Where requests are computed.

    Example:
    ```python
    outputs = await Unbatched(run, ThreadPoolExecutor(1)).submit(inputs)
    ```
    """

    def __init__(self, run: Callable[[Arrays], Arrays], executor: Executor):
        self._run = run
        self._executor = executor

    async def submit(self, inputs: Arrays, deadline: float | None = None) -> Arrays:
        """Computes one request.

        Args:
            inputs: Arrays by name.
            deadline: When to give up, in seconds of `time.monotonic()`.

        Returns:
            The outputs.

        Raises:
            tf.errors.DeadlineExceededError: The deadline passed first.
            tf.errors.OpError: The graph raises it.
        """
        loop = asyncio.get_running_loop()
        in_context = contextvars.copy_context().run
        work = loop.run_in_executor(
            self._executor, in_context, self._compute, inputs, time.monotonic()
        )
        seconds = None if deadline is None else deadline - time.monotonic()
        try:
            # Cancels the work after the deadline; it is dropped if it has not started.
            return await asyncio.wait_for(work, seconds)
        except asyncio.TimeoutError:
            raise status_errors.deadline_exceeded() from None

    async def close(self) -> None:
        """Does nothing: a request that is being computed keeps what it needs."""

    def _compute(self, inputs: Arrays, arrival: float) -> Arrays:
        waited = (request_context.current(), time.monotonic() - arrival)
        with batch_span([waited], rows_of(inputs)):
            return self._run(inputs)


def rows_of(inputs: Arrays) -> int:
    """Counts the rows of a request that may not be one for batches.

    Args:
        inputs: Its arrays. One without dimensions is one row.

    Example:
    ```python
    rows_of({"text": np.array([b"Yes.", b"No."], object)})  # 2
    ```
    """
    return max((len(it) if it.ndim else 1 for it in inputs.values()), default=0)


def _common_rows(inputs: Arrays) -> int:
    if not inputs:
        raise status_errors.invalid(
            "Batching Run() must have at least one input tensor"
        )
    shapes = [array.shape for array in inputs.values()]
    if () in shapes:
        raise status_errors.invalid(
            "Batching Run() input tensors must have at least one dimension"
        )
    rows: int = shapes[0][0]
    if any(shape[0] != rows for shape in shapes):
        raise status_errors.invalid(
            "Batching Run() input tensors must have equal 0th-dimension size"
        )
    return rows


def _expire(answer: asyncio.Future[Arrays]) -> None:
    if not answer.done():
        answer.set_exception(status_errors.deadline_exceeded())


def _merge(requests: Sequence[Arrays], padding: int) -> Arrays:
    merged = {}
    for name in requests[0]:
        values = np.concatenate([inputs[name] for inputs in requests])
        # The padding repeats a real row, which is valid input.
        merged[name] = np.concatenate([values, np.repeat(values[:1], padding, axis=0)])
    return merged


def _check_split(outputs: Arrays, rows: int) -> None:
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise status_errors.failed_precondition(
                f'output "{name}": batching needs a first dimension of {rows}, as the '
                f"inputs have, the graph gave the shape {array.shape}"
            )


def _split(outputs: Arrays, sizes: Sequence[int]) -> list[Arrays]:
    parts: list[Arrays] = []
    start = 0
    for size in sizes:
        end = start + size
        parts.append({name: array[start:end] for name, array in outputs.items()})
        start = end
    return parts
