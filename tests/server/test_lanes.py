"""Requests with long texts do not hold up the others."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.lanes import LONG, Lanes
from simcse_tf.server.scheduler import BatchScheduler

SECONDS = 30


def texts(*sizes):
    return {"text": np.array([b"x" * size for size in sizes], np.object_)}


@pytest.mark.parametrize("sizes", [[LONG], [LONG // 2, 0, LONG // 2]])
def test_a_short_request_is_answered_while_a_long_one_is_computed(sizes):
    begun, may_end = threading.Event(), threading.Event()

    def lengths(inputs):
        sizes = np.array([len(text) for text in inputs["text"]])
        if sizes.sum() >= LONG:
            begun.set()
            assert may_end.wait(SECONDS)
        return {"length": sizes}

    async def ask(lanes):
        long = asyncio.create_task(lanes.submit(texts(*sizes)))
        assert await asyncio.to_thread(begun.wait, SECONDS)
        short = await lanes.submit(texts(3, LONG - 4))
        assert short["length"].tolist() == [3, LONG - 4]
        assert not long.done()
        may_end.set()
        assert (await long)["length"].tolist() == sizes
        await lanes.close()

    parameters = BatchingParameters(8, 1000, 4, 1, ())
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        lanes = Lanes(
            *(BatchScheduler(lengths, parameters, lane) for lane in (one, other))
        )
        asyncio.run(asyncio.wait_for(ask(lanes), SECONDS))
