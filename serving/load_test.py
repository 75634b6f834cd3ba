"""Measures a server under load: throughput, latency percentiles, errors by code.

By default the loop is closed: 1, 8, 64, ... clients, each on a connection of its own,
send the next request as soon as the last one is answered. With --rate the loop is open:
requests come at random moments whether or not the server keeps up, and a latency counts
from the moment at which the request was due. With --pid it follows the server's memory,
for a soak test.

Requests are serialized before the clock starts and answers are not parsed. The CPU time
of the generator is measured and reported too: it shares the cores with a server on the
same machine.
"""

import argparse
import asyncio
import collections
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tqdm import tqdm

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError

METHOD = "/tensorflow.serving.PredictionService/Predict"
WARMUP_SECONDS = 2.0  # at the start of each stage, while queues fill
CALL_SECONDS = 60.0
# A client that was refused comes back after this, as a client with a backoff does.
# Without a pause the test would measure how fast the server refuses.
REFUSED_SECONDS = 0.05
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # or all channels share one connection
]


class Recorder:
    """Records the calls that end in the stage's window of time."""

    def __init__(self, seconds: float):
        self.start = time.perf_counter() + WARMUP_SECONDS
        self.end = self.start + seconds
        self.latencies: list[float] = []
        self.refusals: list[float] = []
        self.errors: collections.Counter[str] = collections.Counter()

    def add(self, since: float, error: grpc.StatusCode | None) -> None:
        now = time.perf_counter()
        if not self.start <= now <= self.end:
            return
        if error is None:
            self.latencies.append(now - since)
        else:
            self.refusals.append(now - since)
            self.errors[error.name] += 1

    def summary(self, texts: int) -> dict[str, Any]:
        seconds = self.end - self.start
        return {
            "requests": len(self.latencies),
            "sentences_per_second": len(self.latencies) * texts / seconds,
            "latency_ms": _percentiles(self.latencies),
            "errors": dict(self.errors),
            "error_latency_ms": _percentiles(self.refusals),
        }


def _percentiles(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    values = 1000 * np.percentile(seconds, [50, 95, 99, 100])
    return dict(zip(("p50", "p95", "p99", "max"), map(float, values), strict=True))


def build_requests(
    texts: list[str], size: int, model: str, signature: str
) -> list[bytes]:
    """Serializes requests of `size` texts each, the texts in a random order."""
    # Imported here because they import TensorFlow, and mistakes do not wait for it.
    from tensorflow.core.framework import types_pb2
    from tensorflow_serving.apis import predict_pb2

    texts = random.Random(0).sample(texts, len(texts))
    requests = []
    for start in range(0, len(texts) - size + 1, size):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        tensor = request.inputs["text"]
        tensor.dtype = types_pb2.DT_STRING
        tensor.tensor_shape.dim.add(size=size)
        tensor.string_val.extend(text.encode() for text in texts[start : start + size])
        requests.append(request.SerializeToString())
    return requests


async def closed_loop(
    target: str, requests: list[bytes], clients: int, recorder: Recorder
) -> None:
    """Runs clients that each wait for an answer before the next request."""
    # The clients share one endless cycle of requests.
    source = itertools.cycle(requests)
    async with connections(target, clients) as calls:
        await asyncio.gather(*(_client(call, source, recorder) for call in calls))


async def _client(call: Any, source: Iterator[bytes], recorder: Recorder) -> None:
    while time.perf_counter() < recorder.end:
        if await _send(call, next(source), time.perf_counter(), recorder):
            await asyncio.sleep(REFUSED_SECONDS)


async def open_loop(
    target: str, requests: list[bytes], rate: float, recorder: Recorder
) -> None:
    """Sends requests at random moments, `rate` a second on average."""
    source, chance = itertools.cycle(requests), random.Random(0)
    running: set[asyncio.Task[bool]] = set()
    async with connections(target, 8) as calls:
        due = time.perf_counter()
        while due < recorder.end:
            await asyncio.sleep(due - time.perf_counter())
            task = asyncio.create_task(
                _send(chance.choice(calls), next(source), due, recorder)
            )
            running.add(task)
            task.add_done_callback(running.discard)
            due += chance.expovariate(rate)
        await asyncio.gather(*running)


async def _send(call: Any, request: bytes, since: float, recorder: Recorder) -> bool:
    """Sends one request and returns whether it failed."""
    try:
        await call(request, timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        recorder.add(since, error.code())
        return True
    recorder.add(since, None)
    return False


@asynccontextmanager
async def connections(target: str, count: int) -> AsyncIterator[list[Any]]:
    """Opens `count` connections; yields `Predict` on each, bytes in and bytes out."""
    channels = [grpc.aio.insecure_channel(target, OPTIONS) for _ in range(count)]
    try:
        yield [channel.unary_unary(METHOD) for channel in channels]
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


async def check(target: str, request: bytes, texts: int) -> None:
    """Sends one request, so that a mistake is reported before the clock starts.

    Raises:
        UserError: There is no answer, or it does not fit the request.
    """
    from tensorflow_serving.apis import predict_pb2

    async with connections(target, 1) as [call]:
        try:
            answer = await call(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise UserError(
                f"{target}: {error.code().name}: {error.details()}"
            ) from None
    outputs = predict_pb2.PredictResponse.FromString(answer).outputs
    sizes = {name: outputs[name].tensor_shape.dim[0].size for name in outputs}
    if not sizes or set(sizes.values()) != {texts}:
        raise UserError(f"{target}: expected {texts} embeddings, received {sizes}")


async def stage(
    load: Awaitable[None], recorder: Recorder, bar: tqdm, texts: int, pid: int | None
) -> dict[str, Any]:
    """Runs one load to its end and returns what was measured."""
    memory: list[tuple[float, float]] = []
    watcher = asyncio.create_task(_watch(recorder, bar, texts, pid, memory))
    cpu, start = time.process_time(), time.perf_counter()
    try:
        await load
    finally:
        watcher.cancel()
    cpu = (time.process_time() - cpu) / (time.perf_counter() - start)
    result = {**recorder.summary(texts), "generator_cores": cpu}
    if pid is not None:
        result |= {"memory_growth": _growth(memory), "memory": memory}
    return result


async def _watch(
    recorder: Recorder,
    bar: tqdm,
    texts: int,
    pid: int | None,
    memory: list[tuple[float, float]],
) -> None:
    while True:
        await asyncio.sleep(1)
        seconds = time.perf_counter() - recorder.start
        bar.update(1)
        if seconds > 0:
            rate = len(recorder.latencies) * texts / seconds
            bar.set_postfix_str(f"{rate:.0f} sentences/s")
        if pid is not None:
            memory.append((round(seconds, 1), resident_megabytes(pid)))


def resident_megabytes(pid: int) -> float:
    """Returns the megabytes of a process that are in RAM.

    Raises:
        UserError: There is no such process, or this is not Linux.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError as error:
        raise UserError(f"--pid: no process {pid}: {error.strerror}") from None
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(kilobytes) / 1024


def _growth(memory: list[tuple[float, float]]) -> float | None:
    """Returns the growth of memory from the second tenth of the time to the last one.

    It is a share, such as 0.01. The first tenth is left out: caches and thread pools
    still fill.
    """
    values = [megabytes for _, megabytes in memory]
    tenth = len(values) // 10
    if not tenth:
        return None
    return float(np.median(values[-tenth:]) / np.median(values[tenth : 2 * tenth]) - 1)


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Draws throughput and latency over the number of clients, as PNG and SVG."""
    from simcse_tf.figures import output, style

    clients = [result["clients"] for result in results]
    speeds = [result["sentences_per_second"] for result in results]
    names = ("p50", "p95", "p99")
    with style.themed("light") as theme:
        figure = style.new(2.4)
        left, right = figure.subplots(1, 2)
        left.plot(clients, speeds, marker="o", markersize=4, color=theme.text)
        left.set(ylabel="sentences a second", ylim=(0, 1.1 * max(speeds) or 1))
        handles = []
        for i, name in enumerate(names):
            values = [(it["latency_ms"] or {}).get(name, np.nan) for it in results]
            looks = style.line(theme, i) | {"marker": style.marker(i), "markersize": 4}
            handles += right.plot(clients, values, **looks)
        right.set(ylabel="latency in ms", yscale="log")
        right.yaxis.set_major_formatter("{x:g}")
        for axes in (left, right):
            axes.set(xlabel="clients", xscale="log")
            axes.set_xticks(clients, list(map(str, clients)))
            axes.minorticks_off()
        style.legend(figure, handles, names)
        output.save(style.finish(figure), path.with_suffix(""))


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, measures, and writes and draws the results."""
    arguments = _parse(argv)
    texts = _read(arguments.input)
    size = arguments.texts_per_request
    if len(texts) < size:
        raise UserError(f"--input: expected {size} texts or more, found {len(texts)}")
    if arguments.pid is not None:
        resident_megabytes(arguments.pid)
    for flag, path in (("--json", arguments.json), ("--plot", arguments.plot)):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{flag}: no such directory: {path.parent}")
    requests = build_requests(texts, size, arguments.model, arguments.signature)
    report = asyncio.run(_measure(arguments, requests))
    if arguments.json is not None:
        with atomic_write(arguments.json) as temporary:
            Path(temporary).write_text(json.dumps(report, indent=1) + "\n")
    if arguments.plot is not None:
        plot(report["stages"], arguments.plot)


async def _measure(
    arguments: argparse.Namespace, requests: list[bytes]
) -> dict[str, Any]:
    target, size = arguments.target, arguments.texts_per_request
    await check(target, requests[0], size)
    loads: list[int | float] = [arguments.rate] if arguments.rate else arguments.clients
    stages = []
    total = len(loads) * (arguments.seconds + WARMUP_SECONDS)
    # Without a terminal the lines below are enough.
    bar = tqdm(total=round(total), unit="s", disable=None, leave=False)
    with bar:
        for load in loads:
            recorder = Recorder(arguments.seconds)
            if arguments.rate:
                settings = {"rate": load}
                calls = open_loop(target, requests, load / size, recorder)
            else:
                settings = {"clients": load}
                calls = closed_loop(target, requests, int(load), recorder)
            result = await stage(calls, recorder, bar, size, arguments.pid)
            stages.append(settings | result)
            bar.write(_line(stages[-1]))
    return {
        "target": target,
        "texts_per_request": size,
        "seconds": arguments.seconds,
        "stages": stages,
    }


def _line(result: dict[str, Any]) -> str:
    load = f"{result['clients']} clients" if "clients" in result else "open loop"
    line = f"{load}: {result['sentences_per_second']:.1f} sentences/s"
    if result["latency_ms"]:
        values = (f"{k} {v:.1f}" for k, v in result["latency_ms"].items())
        line += f"; ms: {', '.join(values)}"
    line += f"; errors: {result['errors'] or 'none'}"
    if result.get("memory_growth") is not None:
        line += f"; memory {result['memory_growth']:+.2%}"
    return f"{line}; generator: {result['generator_cores']:.2f} cores"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("load_test.py", description="Measure a server under load.")
    parser.add_argument("--target", required=True, metavar="HOST:PORT", help="gRPC")
    parser.add_argument(
        "--input", required=True, type=Path, metavar="FILE", help="a text a line"
    )
    parser.add_argument("--model", default="simcse")
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument(
        "--clients",
        type=_numbers,
        default=[1, 8, 64, 256],
        metavar="N,N,...",
        help="clients, one stage for each number (default: 1,8,64,256)",
    )
    parser.add_argument(
        "--rate",
        type=_positive,
        metavar="R",
        help="send R sentences a second, in an open loop",
    )
    parser.add_argument("--texts-per-request", type=_count, default=1, metavar="N")
    parser.add_argument(
        "--seconds", type=_positive, default=20.0, help="a stage (default: 20)"
    )
    parser.add_argument("--pid", type=_count, help="server whose memory to follow")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results")
    parser.add_argument(
        "--plot", type=Path, metavar="OUT.png", help="draw them; an .svg comes with it"
    )
    arguments = parser.parse_args(argv)
    if arguments.rate and arguments.plot:
        parser.error("--plot draws a ladder of clients, not --rate")
    return arguments


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected 1 or more, received {text!r}")
    return int(text)


def _numbers(text: str) -> list[int]:
    return [_count(part) for part in text.split(",")]


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number > 0, received {text!r}")
    return value


def _read(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"--input: cannot read {path}: {error.strerror}") from None
    return [line for line in lines if line.strip()]


if __name__ == "__main__":
    run(main)
