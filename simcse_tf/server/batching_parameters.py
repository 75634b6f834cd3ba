"""How requests are merged into batches: TF Serving's `BatchingParameters`."""

import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class BatchingParameters:
    """Sizes, times and threads of batching; the defaults are TF Serving's."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = os.cpu_count() or 1
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()
