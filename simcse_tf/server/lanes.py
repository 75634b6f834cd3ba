"""Requests with long texts are computed beside the others, not among them."""

import numpy as np

from simcse_tf.server.scheduler import Arrays, BatchScheduler

# Bytes of text. A served model cuts texts at some hundred tokens, so hardly any real
# request holds as many.
LONG = 64 * 2**10


class Lanes:
    """Two queues: what is short does not wait for a text of megabytes.

    Args:
        short: Computes ordinary requests.
        long: Computes requests with at least 64 KB of text, in threads of its own.

    Example:
    ```python
    lanes = Lanes(BatchScheduler(run, batching, a), BatchScheduler(run, batching, b))
    outputs = await lanes.submit({"text": np.array([b"Yes."], object)})
    ```
    """

    def __init__(self, short: BatchScheduler, long: BatchScheduler):
        self._short = short
        self._long = long

    async def submit(self, inputs: Arrays, deadline: float | None = None) -> Arrays:
        """Computes one request; see `BatchScheduler.submit`."""
        lane = self._long if _bytes_of_text(inputs) >= LONG else self._short
        return await lane.submit(inputs, deadline)

    async def close(self) -> None:
        """Waits for the batches that are being computed."""
        await self._short.close()
        await self._long.close()


def _bytes_of_text(inputs: Arrays) -> int:
    texts = (array for array in inputs.values() if array.dtype == np.object_)
    return sum(len(text) for array in texts for text in array.flat)
