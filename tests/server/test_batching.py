"""Dynamic batching: what is computed together, what waits, what is dropped."""

import asyncio
import http.client
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from support.servers import (
    CALL_SECONDS,
    DIM,
    export,
    predict_request,
    server_in_thread,
)
from tensorflow_serving.apis import prediction_service_pb2_grpc

from simcse_tf.server import rest
from simcse_tf.server import servable as servable_module
from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.scheduler import BatchScheduler, Unbatched
from simcse_tf.server.servable import Servable

LONG = 10_000_000  # microseconds that no test waits
OPTIONS = [("grpc.enable_http_proxy", 0)]


class Model:
    """Doubles numbers and records the batches; waits while `gate` is closed."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.running = self.most_running = 0
        self._lock = threading.Lock()

    def __call__(self, inputs):
        with self._lock:
            self.running += 1
            self.most_running = max(self.running, self.most_running)
            self.batches.append(inputs["x"].tolist())
        self.started.release()
        assert self.gate.wait(CALL_SECONDS)
        with self._lock:
            self.running -= 1
        if (inputs["x"] < 0).any():
            raise tf.errors.OutOfRangeError(None, None, "negative")
        return {"y": inputs["x"] * 2}


def parameters(size=8, timeout=1000, batches=4, threads=1, allowed=()):
    return BatchingParameters(size, timeout, batches, threads, allowed)


def request(*numbers):
    return {"x": np.array(numbers, np.float32)}


def run(test, model=None, threads=1, **options):
    """Runs `test(scheduler, model)` in an event loop, for a limited time."""
    model = model or Model()
    with ThreadPoolExecutor(threads) as executor:

        async def main():
            limits = parameters(threads=threads, **options)
            scheduler = BatchScheduler(model, limits, executor)
            await asyncio.wait_for(test(scheduler, model), CALL_SECONDS)
            await asyncio.wait_for(scheduler.close(), CALL_SECONDS)

        asyncio.run(main())
    return model


async def until_running(model):
    assert await asyncio.to_thread(model.started.acquire, timeout=CALL_SECONDS)


def test_requests_at_the_same_time_are_one_batch():
    async def test(scheduler, model):
        answers = await asyncio.gather(
            *(scheduler.submit(request(i, i + 10)) for i in range(3))
        )
        assert [answer["y"].tolist() for answer in answers] == [
            [2 * i, 2 * i + 20] for i in range(3)
        ]

    assert run(test).batches == [[0, 10, 1, 11, 2, 12]]


def test_full_batch_does_not_wait():
    async def test(scheduler, model):
        await asyncio.gather(*(scheduler.submit(request(i)) for i in range(8)))

    assert run(test, timeout=LONG).batches == [[0, 1, 2, 3, 4, 5, 6, 7]]


def test_lone_request_waits_no_longer_than_the_timeout():
    async def test(scheduler, model):
        start = time.monotonic()
        await scheduler.submit(request(1))
        assert 0.1 <= time.monotonic() - start < 1

    run(test, timeout=100_000)


def test_what_arrives_while_every_thread_is_busy_is_merged():
    async def test(scheduler, model):
        model.gate.clear()
        first = asyncio.ensure_future(scheduler.submit(request(1)))
        await until_running(model)
        others = [
            asyncio.ensure_future(scheduler.submit(request(i))) for i in range(2, 7)
        ]
        await asyncio.sleep(0.05)
        model.gate.set()
        await asyncio.gather(first, *others)

    assert run(test).batches == [[1], [2, 3, 4, 5, 6]]


def test_no_more_batches_are_computed_at_once_than_there_are_threads():
    async def test(scheduler, model):
        model.gate.clear()
        work = [
            asyncio.ensure_future(scheduler.submit(request(*[i] * 8))) for i in range(6)
        ]
        for _ in range(2):
            await until_running(model)
        await asyncio.sleep(0.05)
        assert len(model.batches) == 2
        model.gate.set()
        await asyncio.gather(*work)

    assert run(test, threads=2, batches=6).most_running == 2


def test_full_queue_refuses_at_once_and_answers_what_it_took():
    async def test(scheduler, model):
        model.gate.clear()
        running = asyncio.ensure_future(scheduler.submit(request(*[0] * 8)))
        await until_running(model)
        waiting = [
            asyncio.ensure_future(scheduler.submit(request(*[i] * 8))) for i in range(4)
        ]
        await asyncio.sleep(0)
        with pytest.raises(tf.errors.UnavailableError, match="queue .* is full"):
            await scheduler.submit(request(1))
        model.gate.set()
        for number, answer in enumerate(await asyncio.gather(*waiting)):
            assert answer["y"].tolist() == [2 * number] * 8
        assert (await running)["y"].tolist() == [0] * 8
        assert (await scheduler.submit(request(1)))["y"].tolist() == [2]

    run(test, timeout=0)


def test_requests_without_rows_fill_the_queue_as_well():
    async def test(scheduler, model):
        model.gate.clear()
        running = asyncio.ensure_future(scheduler.submit(request(1)))
        await until_running(model)
        empty = [asyncio.ensure_future(scheduler.submit(request())) for _ in range(32)]
        await asyncio.sleep(0)
        with pytest.raises(tf.errors.UnavailableError):
            await scheduler.submit(request())
        model.gate.set()
        assert all(it["y"].shape == (0,) for it in await asyncio.gather(*empty))
        await running

    run(test, timeout=0)


def test_batch_is_padded_with_its_first_row_and_cut_again():
    async def test(scheduler, model):
        answers = await asyncio.gather(
            scheduler.submit(request(7, 8)), scheduler.submit(request(9))
        )
        assert [answer["y"].tolist() for answer in answers] == [[14, 16], [18]]
        assert (await scheduler.submit(request()))["y"].shape == (0,)
        await scheduler.submit(request(5))

    batches = run(test, allowed=(1, 4, 8)).batches
    assert batches == [[7, 8, 9, 7], [], [5]]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (request(*range(9)), "Task size 9 is larger than maximum input batch size 8"),
        ({"x": np.float32(1)}, "at least one dimension"),
        ({"x": np.zeros(2), "z": np.zeros(3)}, "equal 0th-dimension size"),
        ({}, "at least one input"),
    ],
)
def test_what_cannot_be_batched_is_refused(inputs, words):
    async def test(scheduler, model):
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            await scheduler.submit(inputs)

    assert run(test).batches == []


def test_nobody_fails_because_of_what_another_client_sent():
    async def test(scheduler, model):
        numbers = [1, -2, 3, -4]
        answers = await asyncio.gather(
            *(scheduler.submit(request(number)) for number in numbers),
            return_exceptions=True,
        )
        for number, answer in zip(numbers, answers, strict=True):
            if number < 0:
                assert isinstance(answer, tf.errors.OutOfRangeError)
            else:
                assert answer["y"].tolist() == [2 * number]

    assert run(test).batches == [[1, -2, 3, -4], [1], [-2], [3], [-4]]


def test_rows_of_different_shapes_are_computed_apart():
    async def test(scheduler, model):
        wide, narrow = np.ones((1, 3), np.float32), np.ones((2, 2), np.float32)
        answers = await asyncio.gather(
            scheduler.submit({"x": wide}), scheduler.submit({"x": narrow})
        )
        assert [answer["y"].shape for answer in answers] == [(1, 3), (2, 2)]

    run(test)


@pytest.mark.parametrize("output", [np.float32(1), np.zeros(3)])
def test_output_without_the_rows_of_the_input_is_refused(output):
    async def test(scheduler, model):
        with pytest.raises(tf.errors.FailedPreconditionError, match='"y"'):
            await scheduler.submit(request(1, 2))

    run(test, model=lambda inputs: {"y": np.asarray(output)})


def test_request_is_dropped_when_its_deadline_passes_in_the_queue():
    async def test(scheduler, model):
        model.gate.clear()
        running = asyncio.ensure_future(scheduler.submit(request(1)))
        await until_running(model)
        start = time.monotonic()
        in_time = asyncio.ensure_future(scheduler.submit(request(3), start + 20))
        with pytest.raises(tf.errors.DeadlineExceededError):
            await scheduler.submit(request(2), start + 0.1)
        assert 0.1 <= time.monotonic() - start < 1
        with pytest.raises(tf.errors.DeadlineExceededError):
            await scheduler.submit(request(4), start)
        model.gate.set()
        await asyncio.gather(running, in_time)

    assert run(test).batches == [[1], [3]]


def test_request_whose_client_left_is_dropped_and_makes_room():
    async def test(scheduler, model):
        model.gate.clear()
        running = asyncio.ensure_future(scheduler.submit(request(1)))
        await until_running(model)
        waiting = [
            asyncio.ensure_future(scheduler.submit(request(*[2] * 8))) for _ in range(4)
        ]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        last = asyncio.ensure_future(scheduler.submit(request(3)))
        await asyncio.sleep(0)
        model.gate.set()
        await asyncio.gather(running, last)

    assert run(test).batches == [[1], [3]]


def test_batch_that_waits_for_a_thread_of_another_model_can_still_be_dropped():
    async def test(scheduler, model):
        model.gate.clear()
        other = BatchScheduler(model, parameters(timeout=0), scheduler._executor)
        running = asyncio.ensure_future(scheduler.submit(request(1)))
        await until_running(model)
        with pytest.raises(tf.errors.DeadlineExceededError):
            await other.submit(request(2), time.monotonic() + 0.05)
        model.gate.set()
        await running
        await other.close()

    assert run(test).batches == [[1]]


def test_close_waits_for_the_batch_that_is_computed():
    async def test(scheduler, model):
        model.gate.clear()
        task = asyncio.ensure_future(scheduler.submit(request(1)))
        await until_running(model)
        task.cancel()
        closing = asyncio.ensure_future(scheduler.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        model.gate.set()
        await closing
        assert model.running == 0

    run(test)


def test_every_answer_is_right_whatever_comes_together():
    generator = random.Random(5)
    allowed = (2, 4, 8)

    async def ask(scheduler, number):
        await asyncio.sleep(generator.random() / 10)
        numbers = [number + i / 8 for i in range(generator.randrange(9))]
        patience = generator.choice([None, 20.0, 0.004])
        deadline = patience and time.monotonic() + patience
        call = scheduler.submit(request(*numbers), deadline)
        try:
            if generator.random() < 0.1:
                await asyncio.wait_for(call, 0.002)
                return "answered"
            answer = (await call)["y"].tolist()
        except tf.errors.UnavailableError:
            return "refused"
        except tf.errors.DeadlineExceededError:
            assert patience == 0.004
            return "too late"
        except asyncio.TimeoutError:
            return "left"
        assert answer == [2 * it for it in numbers]
        return "answered"

    async def test(scheduler, model):
        outcomes = await asyncio.gather(*(ask(scheduler, i) for i in range(600)))
        assert outcomes.count("answered") > 100, outcomes

    model = Model()
    run(test, model, threads=2, allowed=allowed, batches=8)
    assert {len(batch) for batch in model.batches} <= {0, *allowed}
    assert model.most_running <= 2


def test_unbatched_requests_are_computed_one_by_one():
    model = Model()

    async def main():
        with ThreadPoolExecutor(1) as executor:
            direct = Unbatched(model, executor)
            answers = await asyncio.gather(
                *(direct.submit({"x": np.float32(i)}) for i in range(3))
            )
            assert [float(answer["y"]) for answer in answers] == [0, 2, 4]
            for _ in range(3):
                await until_running(model)
            model.gate.clear()
            running = asyncio.ensure_future(direct.submit(request(5)))
            await until_running(model)
            with pytest.raises(tf.errors.DeadlineExceededError):
                await direct.submit(request(6), time.monotonic() + 0.05)
            model.gate.set()
            await running

    asyncio.run(main())
    assert model.batches == [0, 1, 2, [5]]


class Metrics:
    """Remembers what it received."""

    def __init__(self):
        self.batches = []
        self.requests = []
        self.queue = self.longest_queue = 0

    def batch(self, model, texts, allowed_size, queue_seconds, run_seconds):
        assert queue_seconds >= 0
        assert run_seconds > 0
        self.batches.append((model, texts, allowed_size))

    def queued(self, model, change):
        self.queue += change
        self.longest_queue = max(self.queue, self.longest_queue)

    def request(self, model, api, entrypoint, status, seconds):
        self.requests.append((model, api, entrypoint, status))

    def render(self):
        return b"counts 1\n", "text/plain; version=0.0.4"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return export(tmp_path_factory.mktemp("models"))


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def start(path, metrics):
    """Starts a server in this process with the given parameters."""

    def start(batching, **options):
        servable = Servable(3, path, batching, executor, metrics, "simcse")
        return server_in_thread(servable, metrics, **options)

    with ThreadPoolExecutor(1) as executor:
        yield start


def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def post(port, document, timeout=CALL_SECONDS):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", "/v1/models/simcse:predict", json.dumps(document))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def busy_for(seconds):
    return predict_request("busy", seconds=np.array([seconds]))


def test_clients_of_grpc_and_rest_share_batches(start, metrics):
    with (
        start(parameters(64, 300_000)) as address,
        grpc.insecure_channel(address.target, OPTIONS) as channel,
        ThreadPoolExecutor(8) as threads,
    ):
        over_grpc = [
            stub(channel).Predict.future(predict_request(text=[f"text {i}"]))
            for i in range(8)
        ]
        over_rest = list(
            threads.map(
                lambda i: post(address.rest_port, {"instances": [f"text {i}"]}),
                range(8),
            )
        )
        for call, (status, answer) in zip(over_grpc, over_rest, strict=True):
            assert status == 200
            rows = tf.make_ndarray(call.result(CALL_SECONDS).outputs["embedding"])
            assert rows.shape == (1, DIM)
            np.testing.assert_array_equal(
                rows, np.array(answer["predictions"], np.float32)
            )
    assert metrics.batches == [("simcse", 16, 16)]
    assert metrics.requests.count(("simcse", "Predict", "GRPC", "OK")) == 8
    assert metrics.requests.count(("simcse", "Predict", "REST", "OK")) == 8


def test_full_queue_and_late_answers_have_codes_of_their_own(
    start, metrics, monkeypatch
):
    monkeypatch.setattr(rest, "TIMEOUT_SECONDS", 0.6)
    with (
        start(parameters(1, 0, batches=1)) as address,
        grpc.insecure_channel(address.target, OPTIONS) as channel,
        ThreadPoolExecutor(2) as threads,
    ):
        predict = stub(channel).Predict
        predict(predict_request(text=["first"]), timeout=CALL_SECONDS)
        running = predict.future(busy_for(1.2))
        time.sleep(0.1)
        # One batch of these waits for the thread, and one fills the queue.
        waiting = [
            threads.submit(post, address.rest_port, {"instances": ["late"]})
            for _ in range(2)
        ]
        time.sleep(0.1)
        with pytest.raises(grpc.RpcError) as caught:
            predict(predict_request(text=["a"]), timeout=CALL_SECONDS)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "queue to which this task was submitted is full" in (
            caught.value.details()
        )
        assert post(address.rest_port, {"instances": ["a"]})[0] == 503
        assert [it.result()[0] for it in waiting] == [504, 504]
        assert running.result(CALL_SECONDS).outputs
    assert [texts for _, texts, _ in metrics.batches] == [1, 1]
    assert ("simcse", "Predict", "GRPC", "UNAVAILABLE") in metrics.requests
    assert ("simcse", "Predict", "REST", "DEADLINE_EXCEEDED") in metrics.requests


@pytest.mark.parametrize("batching", [parameters(8, 0), None], ids=["batched", "alone"])
def test_work_of_clients_that_left_is_not_done(start, path, batching, monkeypatch):
    computed = []

    def recording(function):
        signature = on_arrays(function)

        def run(inputs):
            computed.append({name: it.tolist() for name, it in inputs.items()})
            return signature(inputs)

        return run

    on_arrays = servable_module._on_arrays
    monkeypatch.setattr(servable_module, "_on_arrays", recording)
    with (
        start(batching) as address,
        grpc.insecure_channel(address.target, OPTIONS) as channel,
    ):
        predict = stub(channel).Predict
        running = predict.future(busy_for(1.0))
        time.sleep(0.2)
        with pytest.raises(grpc.RpcError) as caught:
            predict(predict_request(text=["too late"]), timeout=0.1)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        cancelled = predict.future(predict_request(text=["cancelled"]))
        time.sleep(0.1)
        cancelled.cancel()
        with pytest.raises(TimeoutError):
            post(address.rest_port, {"instances": ["gone"]}, timeout=0.1)
        patient = predict.future(predict_request(text=["patient"]), timeout=20)
        assert running.result(CALL_SECONDS).outputs
        assert patient.result(CALL_SECONDS).outputs
    assert computed == [{"seconds": [1.0]}, {"text": [b"patient"]}]


def test_without_batching_any_size_and_scalars_are_answered(start):
    with (
        start(None) as address,
        grpc.insecure_channel(address.target, OPTIONS) as channel,
    ):
        predict = stub(channel).Predict
        texts = [f"sentence number {i}" for i in range(5000)]
        response = predict(predict_request(text=texts), timeout=CALL_SECONDS)
        assert tf.make_ndarray(response.outputs["embedding"]).shape == (5000, DIM)
        half = predict(predict_request("half", x=3.0), timeout=CALL_SECONDS)
        assert tf.make_ndarray(half.outputs["y"]) == 1.5
        body = {"signature_name": "half", "inputs": 3}
        assert post(address.rest_port, body) == (200, {"outputs": 1.5})


def test_metrics_are_shown_at_their_path(start):
    with start(None, metrics_path="/monitoring/prometheus/metrics") as address:
        connection = http.client.HTTPConnection("127.0.0.1", address.rest_port)
        connection.request("GET", "/monitoring/prometheus/metrics")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"counts 1\n")
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4"
        connection.close()
