"""The client when things go wrong: servers that die, refuse, dawdle, or change."""

import asyncio
import contextlib
import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from support.servers import CALL_SECONDS, environment, export, free_port, running_server
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from simcse_tf.client import (
    AsyncClient,
    Client,
    Retry,
    ServerError,
    Tls,
    VersionChanged,
)
from simcse_tf.core.errors import UserError

SENTENCES = int(os.environ.get("SIMCSE_FAULT_SENTENCES", 3000))
SENTENCES_A_KILL = 10_000
NOBODY = "127.0.0.1:1"
QUICK = Retry(first=0.01, longest=0.01)


class Stub(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Embeds a number as itself; `before` may refuse or wait."""

    def __init__(
        self, before=lambda number, context: None, version=lambda number: 1, width=1
    ):
        self.before = before
        self.version = version
        self.width = width
        self.calls = 0
        self.running = self.most_running = 0
        self.metadata = {}
        self.lock = threading.Lock()

    def Predict(self, request, context):
        with self.lock:
            self.calls += 1
            number = self.calls
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            self.metadata = dict(context.invocation_metadata())
        try:
            self.before(number, context)
        finally:
            with self.lock:
                self.running -= 1
        texts = request.inputs["text"].string_val
        array = np.array([[float(text)] * self.width for text in texts], np.float32)
        response = predict_pb2.PredictResponse()
        response.outputs["embedding"].CopyFrom(tf.make_tensor_proto(array))
        response.model_spec.version.value = self.version(number)
        return response


@contextlib.contextmanager
def serving(stub, credentials=None):
    server = grpc.server(futures.ThreadPoolExecutor(32))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(stub, server)
    if credentials:
        port = server.add_secure_port("localhost:0", credentials)
    else:
        port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait(CALL_SECONDS)


def refuse_first(times, code):
    def before(number, context):
        if number <= times:
            context.abort(code, f"refusal {number}")

    return before


def numbers(count):
    return [str(i) for i in range(count)]


def column(count):
    return np.arange(count, dtype=np.float32)[:, None]


class Mortal:
    """A server that is killed, and started again on the same port meanwhile."""

    def __init__(self, base_path, stack):
        self._flags = (base_path, "--port", str(free_port()))
        self._stack = stack
        self._starter = stack.enter_context(futures.ThreadPoolExecutor(1))
        self.kills = 0
        self._restarted = self._starter.submit(self._start)
        self.target = self._server().target

    def kill_and_restart(self):
        server = self._server()
        server.process.kill()
        server.process.wait(CALL_SECONDS)
        self.kills += 1
        self._restarted = self._starter.submit(self._start)

    def _server(self):
        return self._restarted.result(CALL_SECONDS)

    def _start(self):
        return self._stack.enter_context(running_server(*self._flags))


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_the_server_is_killed(tmp_path):
    model = tf.saved_model.load(str(export(tmp_path / "models")))
    sentences = [f"sentence number {i}" for i in range(SENTENCES)]
    expected = model.signatures["serving_default"](text=tf.constant(sentences))
    kills = range(SENTENCES // 2, SENTENCES, SENTENCES_A_KILL)
    if SENTENCES > SENTENCES_A_KILL:
        kills = range(SENTENCES_A_KILL // 2, SENTENCES, SENTENCES_A_KILL)
    with contextlib.ExitStack() as stack:
        server = Mortal(tmp_path / "models", stack)

        def source():
            # Read as requests are sent: the others are under way at a kill.
            for i, sentence in enumerate(sentences):
                if i in kills:
                    server.kill_and_restart()
                yield sentence

        with Client(server.target) as client:
            embeddings = client.encode(source(), deadline=60 * (1 + len(kills)))
        assert server.kills == len(kills)
    # Not equal: a square root depends on its place in the vector register.
    np.testing.assert_allclose(embeddings, expected["embedding"], atol=1e-6)


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
    ],
)
def test_a_full_server_is_asked_again(code):
    stub = Stub(refuse_first(3, code))
    with serving(stub) as target, Client(target, batch_size=4, retry=QUICK) as client:
        np.testing.assert_array_equal(client.encode(numbers(10)), column(10))
    assert stub.calls == 3 + 3  # batches, and refusals


@pytest.mark.parametrize(
    "code",
    [
        code
        for code in grpc.StatusCode
        if code.name not in ("OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED")
    ],
)
def test_other_refusals_are_reported_at_once(code):
    stub = Stub(refuse_first(1, code))
    with (
        serving(stub) as target,
        Client(target, retry=QUICK) as client,
        pytest.raises(ServerError, match="refusal 1") as caught,
    ):
        client.encode(["1"])
    assert stub.calls == 1
    assert (caught.value.code, caught.value.retryable) == (code, False)


def test_attempts_are_bounded_and_reported():
    stub = Stub(refuse_first(100, grpc.StatusCode.UNAVAILABLE))
    retry = Retry(attempts=3, first=0.01)
    with (
        serving(stub) as target,
        Client(target, retry=retry) as client,
        pytest.raises(ServerError, match="refusal 3 .3 attempts in") as caught,
    ):
        client.encode(["1"])
    assert stub.calls == 3
    assert caught.value.attempts == 3
    assert caught.value.retryable


def test_time_of_retrying_is_bounded():
    start = time.monotonic()
    retry = Retry(seconds=0.5)
    with Client(NOBODY, retry=retry) as client, pytest.raises(ServerError) as caught:
        client.encode(["1"])
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE
    assert caught.value.attempts > 1
    assert 0.5 <= time.monotonic() - start < 5


@pytest.mark.parametrize("ask", ["encode", "similarity", "status", "metadata"])
def test_the_deadline_ends_retries(ask):
    texts = {"encode": [["1"]], "similarity": [["1"], ["1"]]}.get(ask, [])
    start = time.monotonic()
    with Client(NOBODY) as client, pytest.raises(ServerError) as caught:
        getattr(client, ask)(*texts, deadline=0.5)
    # Not DEADLINE_EXCEEDED, which would hide why there was no answer.
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE
    assert caught.value.attempts > 1
    assert time.monotonic() - start < 5


def test_the_deadline_is_one_for_all_requests_of_a_call():
    stub = Stub(lambda number, context: time.sleep(0.2))
    start = time.monotonic()
    with (
        serving(stub) as target,
        Client(target, batch_size=1, concurrency=1) as client,
        pytest.raises(ServerError) as caught,
    ):
        client.encode(numbers(100), deadline=1)
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 3 <= stub.calls <= 6
    assert time.monotonic() - start < 5


def test_a_slow_answer_is_not_asked_for_again():
    stub = Stub(lambda number, context: time.sleep(0.5))
    with (
        serving(stub) as target,
        Client(target, timeout=0.1) as client,
        pytest.raises(ServerError) as caught,
    ):
        client.encode(["1"])
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert stub.calls == 1


def test_answers_may_be_larger_than_grpcs_own_limit():
    with serving(Stub(width=20_000)) as target, Client(target) as client:
        embeddings = client.encode(numbers(64))
        limit = [("grpc.max_receive_message_length", 2**20)]
        once = Retry(attempts=1)
        with (
            Client(target, options=limit, retry=once) as limited,
            pytest.raises(ServerError, match="larger than max"),
        ):
            limited.encode(numbers(64))
    assert embeddings.nbytes > 4 * 2**20
    np.testing.assert_array_equal(embeddings, np.tile(column(64), 20_000))


def test_answers_that_overtake_keep_their_order():
    stub = Stub(lambda number, context: time.sleep(0.03 * (number % 3 == 0)))
    with (
        serving(stub) as target,
        Client(target, batch_size=3, concurrency=5) as client,
    ):
        np.testing.assert_array_equal(client.encode(numbers(100)), column(100))
    assert 1 < stub.most_running <= 5


def test_a_stream_reads_no_further_than_the_requests_under_way():
    stub = Stub()
    read = itertools.count()
    with (
        serving(stub) as target,
        Client(target, batch_size=4, concurrency=3) as client,
    ):
        stream = client.encode_stream(str(number) for number in read)
        first = list(itertools.islice(stream, 5))
        stream.close()
    np.testing.assert_array_equal(np.concatenate(first), column(20))
    assert next(read) == 4 * (5 + 3 - 1)
    assert stub.calls <= 5 + 3 - 1


def test_a_failure_in_the_middle_ends_the_call():
    def before(number, context):
        if number >= 3:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no more")

    endless = (str(number) for number in itertools.count())
    with (
        serving(Stub(before)) as target,
        Client(target, batch_size=2) as client,
        pytest.raises(ServerError, match="no more"),
    ):
        client.encode(endless)


def test_an_error_of_the_source_is_the_callers():
    def source():
        yield from numbers(10)
        raise LookupError("no more sentences")

    with serving(Stub()) as target, Client(target, batch_size=2) as client:
        with pytest.raises(LookupError, match="no more sentences"):
            client.encode(source())
        np.testing.assert_array_equal(client.encode(numbers(2)), column(2))


def test_one_call_never_mixes_versions():
    stub = Stub(version=lambda number: 1 + (number > 2))
    with (
        serving(stub) as target,
        Client(target, batch_size=1, concurrency=1) as client,
    ):
        with pytest.raises(VersionChanged, match="version 1 to 2"):
            client.encode(numbers(5))
        np.testing.assert_array_equal(client.encode(numbers(5)), column(5))


@pytest.mark.filterwarnings("error")
def test_the_asynchronous_client_does_the_same():
    async def main(target):
        async with AsyncClient(target, batch_size=3, retry=QUICK) as client:
            both = await asyncio.gather(
                client.encode(numbers(20)), client.encode(iter(numbers(10)))
            )
            parts = [part async for part in client.encode_stream(numbers(10))]
            return both, parts

    stub = Stub(refuse_first(2, grpc.StatusCode.UNAVAILABLE))
    with serving(stub) as target:
        (long, short), parts = asyncio.run(main(target))
    np.testing.assert_array_equal(long, column(20))
    np.testing.assert_array_equal(short, column(10))
    assert [len(part) for part in parts] == [3, 3, 3, 1]


def test_a_cancelled_call_cancels_its_requests():
    cancelled = threading.Event()

    def before(number, context):
        context.add_callback(cancelled.set)
        cancelled.wait(CALL_SECONDS)

    async def main(target):
        async with AsyncClient(target) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.encode(["1"]), 0.3)
            return await asyncio.to_thread(cancelled.wait, 5)

    with serving(Stub(before)) as target:
        assert asyncio.run(main(target))


def test_ctrl_c_ends_the_command_line():
    asked, answered = threading.Event(), threading.Event()

    def before(number, context):
        asked.set()
        answered.wait(CALL_SECONDS)

    with serving(Stub(before)) as target:
        command = [sys.executable, "-m", "simcse_tf.client", "--target", target]
        process = subprocess.Popen(
            [*command, "encode", "1"],
            env=environment(),
            stderr=subprocess.PIPE,
            # A job in a shell's background ignores it, and so do its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            assert asked.wait(CALL_SECONDS)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=CALL_SECONDS)
        finally:
            answered.set()
            process.kill()
    assert (process.returncode, stderr) == (130, b"interrupted\n")


def test_an_asynchronous_client_needs_its_event_loop():
    with pytest.raises(RuntimeError, match="event loop"):
        AsyncClient(NOBODY)


def test_threads_may_share_a_client():
    with (
        serving(Stub()) as target,
        Client(target, batch_size=2) as client,
        futures.ThreadPoolExecutor(8) as pool,
    ):
        arrays = list(pool.map(client.encode, [numbers(9)] * 16))
    for array in arrays:
        np.testing.assert_array_equal(array, column(9))


def test_a_closed_client_says_so():
    client = Client(NOBODY)
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match=f"{NOBODY} is closed"):
        client.encode(["1"])


def test_a_forgotten_client_leaves_no_thread():
    client = Client(NOBODY)
    assert any(it.name == "simcse_tf.client" for it in threading.enumerate())
    del client
    gc.collect()
    assert not any(it.name == "simcse_tf.client" for it in threading.enumerate())


def test_the_token_goes_with_every_request():
    stub = Stub()
    with serving(stub) as target, Client(target, token="s3cret") as client:
        client.encode(["1"])
    assert stub.metadata["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("token", ["two\nlines", "naïve", " spaced"])
def test_a_token_that_no_header_can_hold_is_not_shown(token):
    with pytest.raises(UserError, match="token") as caught:
        Client(NOBODY, token=token)
    assert token not in str(caught.value)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate for localhost that is its own authority, and its key."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("tls")
    command = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost "
        "-keyout key.pem -out certificate.pem"
    )
    subprocess.run(
        [openssl, *command.split()],
        cwd=directory,
        check=True,
        capture_output=True,
        timeout=CALL_SECONDS,
    )
    return directory / "certificate.pem", directory / "key.pem"


@pytest.fixture(scope="module")
def strict_server(certificates):
    """A server that wants certificates from its clients."""
    certificate, key = (path.read_bytes() for path in certificates)
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], certificate, require_client_auth=True
    )
    with serving(Stub(), credentials) as target:
        yield target


def test_both_sides_show_certificates(strict_server, certificates):
    tls = Tls(certificates[0], *certificates)
    with Client(strict_server, tls=tls, token="s3cret") as client:
        np.testing.assert_array_equal(client.encode(numbers(3)), column(3))


@pytest.mark.parametrize("known", ["nothing", "authority", "own"])
def test_without_the_right_certificates_nothing_is_sent(
    strict_server, certificates, known
):
    tls = {
        "nothing": None,
        "authority": Tls(ca=certificates[0]),
        "own": Tls(certificate=certificates[0], key=certificates[1]),
    }[known]
    once = Retry(attempts=1)
    with (
        Client(strict_server, tls=tls, retry=once) as client,
        pytest.raises(ServerError) as caught,
    ):
        client.encode(["1"])
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        (Tls(ca="/nowhere/ca.pem"), "/nowhere/ca.pem"),
        (Tls(certificate="/nowhere/certificate.pem"), "its key"),
        (Tls(ca=__file__), "ca: expected certificates"),
        (Tls(certificate=__file__, key=__file__), "certificate, key: expected"),
    ],
)
def test_wrong_tls_files_are_mistakes(tls, words):
    with pytest.raises(UserError, match=words):
        Client(NOBODY, tls=tls)
