"""How requests are merged into batches: TF Serving's `BatchingParameters`."""

import dataclasses
import itertools
import os

from simcse_tf.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class BatchingParameters:
    """Sizes, times and threads of batching; the defaults are TF Serving's.

    Args:
        max_batch_size: The most rows in a batch.
        batch_timeout_micros: How long a row waits for others while a thread is free.
        max_enqueued_batches: How many full batches may wait.
        num_batch_threads: How many batches are computed at once.
        allowed_batch_sizes: A batch is padded to the next of these sizes; with none
            of them it keeps its own size.

    Raises:
        UserError: TF Serving would refuse them; the message begins with the field.

    Example:
    ```python
    BatchingParameters(max_batch_size=64, batch_timeout_micros=2000)
    ```
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (
            ("max_batch_size", 1),
            ("batch_timeout_micros", 0),
            ("max_enqueued_batches", 1),
            ("num_batch_threads", 1),
        ):
            if getattr(self, name) < least:
                raise UserError(
                    f"{name}: expected {least} or more, received {getattr(self, name)}"
                )
        sizes = self.allowed_batch_sizes
        if any(a >= b for a, b in itertools.pairwise((0, *sizes))):
            raise UserError(
                f"allowed_batch_sizes: expected rising numbers, received {[*sizes]}"
            )
        if sizes and sizes[-1] != self.max_batch_size:
            raise UserError(
                f"allowed_batch_sizes: expected the last to be max_batch_size, "
                f"{self.max_batch_size}, received {sizes[-1]}"
            )
