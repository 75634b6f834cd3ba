"""The OpenAI API under load: our server and gateway beside infinity-emb.

    python benchmarks/openai_load.py --data senteval \\
        --torch-python TORCH/bin/python --onnx-python ONNX/bin/python

All serve the same weights (MiniLM), in float32, as `base64`, which is what the official
client asks for. One generator asks them in turn, over connections that stay open: each
client sends its next request when the last one is answered. Before that all embed the
same sentences, and the largest difference is told. The table is Markdown.

The gateway stands in front of our Python server, or of the TF Serving that `--target`
names. infinity-emb runs as its authors advise for a CPU: PyTorch with
BetterTransformer, ONNX Runtime with an optimized graph. Each needs an environment of
its own (`peers/infinity_torch.txt`, `peers/infinity_onnx.txt`) and is left out without
one.
"""

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np
import rounds
from encoding import PACKAGE, package_directory, sentences

SERVER, GATEWAY = "server", "gateway"
MODEL = "simcse"
CLIENTS = (1, 8, 64)
SIZES = (1, 16)  # texts in a request
LIMIT = 8000
COMPARED = 256
TOLERANCE = 1e-4
WARM_UP_SECONDS = 1.0  # at the start of each measurement, while queues fill
READY_SECONDS = 600
CALL_SECONDS = 60
JSON = {"Content-Type": "application/json"}


class Server(NamedTuple):
    """Where one answers, and whose processor time counts as its own."""

    url: str
    pids: tuple[int, ...]

    def cpu_seconds(self) -> float:
        return sum(map(rounds.cpu_seconds, self.pids))


def ours(stack: contextlib.ExitStack, arguments, work: Path) -> dict[str, Server]:
    """Starts our Python server, and the gateway."""
    python = (sys.executable, "-m")
    base = arguments.export
    if not base:
        base = work / "export"
        export = [*python, "simcse_tf.export", "--model", f"package://{PACKAGE}/model"]
        subprocess.run([*export, "--output", base], check=True)
    grpc, rest, port = free_ports(3)
    serve = [*python, "simcse_tf.serve", "--model_base_path", base]
    serve += [f"--port={grpc}", f"--rest_api_port={rest}"]
    server = stack.enter_context(running(serve, rest))
    target = arguments.target or f"127.0.0.1:{grpc}"
    behind = () if arguments.target else server.pids
    gateway = [*python, "simcse_tf.gateway", f"--target={target}", f"--port={port}"]
    return {
        SERVER: server,
        GATEWAY: stack.enter_context(running(gateway, port, behind)),
    }


def infinity(
    stack: contextlib.ExitStack, python: str, model: Path, work: Path, *flags: str
) -> Server:
    """Starts infinity-emb, from the environment of `python`."""
    [port] = free_ports(1)
    # The model is named from its own directory: optimum looks for relative names. In
    # `work` it keeps what it has optimized.
    command = ["/usr/bin/env", f"--chdir={model}", f"HF_HOME={work}"]
    command += ["HF_HUB_OFFLINE=1", "INFINITY_ANONYMOUS_USAGE_STATS=0"]
    command += [Path(python).absolute().with_name("infinity_emb"), "v2"]
    command += ["--model-id=.", f"--served-model-name={MODEL}", f"--port={port}"]
    command += ["--device=cpu", "--dtype=float32", "--pooling-method=mean"]
    # Its warm-up measures long texts; ours is to embed the sentences that are compared.
    command += ["--no-compile", "--no-model-warmup", *flags]
    command += ["--host=127.0.0.1", "--url-prefix=/v1", "--log-level=warning"]
    return stack.enter_context(running(command, port))


def onnx_model(python: str, work: Path) -> Path:
    """Exports the weights for ONNX Runtime, with its fusions for transformers.

    infinity-emb's own call of the optimizer is of an older optimum.
    """
    command = [Path(python).with_name("optimum-cli"), "export", "onnx"]
    command += ["--model", package_directory() / "model", "--library=transformers"]
    command += ["--task=feature-extraction", "--optimize=O2", work / "onnx"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return work / "onnx"


@contextlib.contextmanager
def contestants(arguments: argparse.Namespace) -> Iterator[dict[str, Server]]:
    """Starts all, one after the other, and ends them."""
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(rounds.scratch())
        started = ours(stack, arguments, work)
        if python := arguments.torch_python:
            flags = ("--engine=torch", "--bettertransformer")
            model = package_directory() / "model"
            started["infinity torch"] = infinity(stack, python, model, work, *flags)
        if python := arguments.onnx_python:
            model = onnx_model(python, work)
            server = infinity(stack, python, model, work, "--engine=optimum")
            started["infinity onnx"] = server
        yield started


@contextlib.contextmanager
def running(command: list, port: int, behind: tuple[int, ...] = ()) -> Iterator[Server]:
    """Starts a process and waits until it embeds; others may work `behind` it."""
    url = f"http://127.0.0.1:{port}/v1/embeddings"
    command = list(map(str, command))
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            if trouble := wait_until_ready(url, process):
                log.seek(0)
                raise SystemExit(f"{log.read()[-3000:]}\n{command}: {trouble}")
            print(f"ready: {' '.join(command)}", file=sys.stderr)
            yield Server(url, (process.pid, *behind))
        finally:
            process.kill()
            process.wait()


def wait_until_ready(url: str, process: subprocess.Popen) -> str | None:
    """Waits until it embeds; why it does not."""
    end = time.monotonic() + READY_SECONDS
    request = urllib.request.Request(url, body(["Ready?"]), JSON)
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(request, timeout=CALL_SECONDS).close()
            return None
        except urllib.error.HTTPError as error:
            if error.code not in (404, 503):  # not loaded yet
                return error.read().decode()
        except OSError:
            pass
        if process.poll() is not None:
            return f"it ended with {process.returncode}"
        time.sleep(0.2)
    return f"no answer within {READY_SECONDS} s"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(count)
        ]
        return [each.getsockname()[1] for each in listeners]


def body(texts: list[str]) -> bytes:
    asked = texts[0] if len(texts) == 1 else texts
    fields = {"model": MODEL, "input": asked, "encoding_format": "base64"}
    return json.dumps(fields).encode()


async def ask(session: aiohttp.ClientSession, url: str, request: bytes) -> bytes:
    async with session.post(url, data=request, headers=JSON) as answer:
        text = await answer.read()
        if answer.status != 200:
            raise SystemExit(f"{url}: {answer.status}: {text.decode()}")
        return text


def connected() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(CALL_SECONDS),
    )


async def embed(url: str, texts: list[str], size: int = 16) -> np.ndarray:
    """All embeddings, in the order of the texts."""
    rows = []
    async with connected() as session:
        for first in range(0, len(texts), size):
            answer = await ask(session, url, body(texts[first : first + size]))
            items = sorted(json.loads(answer)["data"], key=lambda each: each["index"])
            rows += [base64.b64decode(each["embedding"]) for each in items]
    return np.array([np.frombuffer(row, "<f4") for row in rows])


async def load(
    server: Server, requests: list[bytes], clients: int, seconds: float
) -> dict[str, float]:
    """Lets clients ask for a while; what those requests took that end in it."""
    source = itertools.cycle(requests)
    begin = time.perf_counter() + WARM_UP_SECONDS
    end = begin + seconds
    latencies = []

    async def client() -> None:
        while (asked := time.perf_counter()) < end:
            await ask(session, server.url, next(source))
            if begin <= (now := time.perf_counter()) <= end:
                latencies.append(now - asked)

    async def watch() -> tuple[float, float]:
        await asyncio.sleep(WARM_UP_SECONDS)
        busy, own = server.cpu_seconds(), time.process_time()
        await asyncio.sleep(end - time.perf_counter())
        return server.cpu_seconds() - busy, time.process_time() - own

    async with connected() as session:
        (busy, own), *_ = await asyncio.gather(
            watch(), *(client() for _ in range(clients))
        )
    p50, p95, p99 = 1000 * np.percentile(latencies, [50, 95, 99])
    return {
        "requests": len(latencies) / seconds,
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "cores": busy / seconds,
        "generator": own / seconds,
    }


async def compete(
    servers: dict[str, Server], texts: list[str], arguments: argparse.Namespace
) -> list[dict]:
    """Each load in turn on each server, in every round in another order."""
    loads = list(itertools.product(SIZES, CLIENTS))
    results = []
    for number in range(arguments.rounds):
        for size, clients in loads:
            requests = [
                body(texts[at : at + size])
                for at in range(0, len(texts) - size + 1, size)
            ]
            # Every server meets other sentences in the next round.
            random.Random(number).shuffle(requests)
            names = list(servers)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                measured = await load(
                    servers[name], requests, clients, arguments.seconds
                )
                rate = measured["requests"] * size
                case = {"server": name, "texts": size, "clients": clients}
                results.append({**case, **measured, "rate": rate, "round": number})
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    return results


def table(results: list[dict], names: list[str]) -> str:
    """Medians of the rounds; how many times each rate ours is, round by round."""
    lines = [
        "| texts a request | clients | | sentences/s | p50 ms | p95 ms | p99 ms "
        "| cores busy | server is × | gateway is × |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for size, clients in itertools.product(SIZES, CLIENTS):
        rows = [
            one for one in results if (one["texts"], one["clients"]) == (size, clients)
        ]
        of = {name: [one for one in rows if one["server"] == name] for name in names}
        for name in names:
            medians = {
                key: statistics.median(one[key] for one in of[name])
                for key in ("rate", "p50", "p95", "p99", "cores")
            }
            ratios = [ratio(of[mine], of[name]) for mine in (SERVER, GATEWAY)]
            numbers = "{rate:.0f} | {p50:.1f} | {p95:.1f} | {p99:.1f} | {cores:.2f}"
            lines.append(
                f"| {size} | {clients} | {name} | {numbers.format(**medians)} "
                f"| {ratios[0]:.2f} | {ratios[1]:.2f} |"
            )
    return "\n".join(lines)


def ratio(mine: list[dict], theirs: list[dict]) -> float:
    return statistics.median(
        one["rate"] / other["rate"] for one, other in zip(mine, theirs, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="directory that holds STS/")
    parser.add_argument("--export", help="what simcse_tf.export made of MiniLM")
    parser.add_argument("--target", metavar="HOST:PORT", help="a TF Serving's gRPC")
    parser.add_argument("--torch-python", metavar="PYTHON", help="of infinity-emb")
    parser.add_argument("--onnx-python", metavar="PYTHON", help="of infinity-emb")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="of the embeddings' difference; about 0.03 with an export in int8",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="a measurement")
    parser.add_argument("--json", metavar="OUT.json")
    arguments = parser.parse_args()
    # No text twice: our graph computes equal texts of a batch once.
    texts = list(dict.fromkeys(sentences(arguments.data, LIMIT)))
    with contestants(arguments) as servers:
        found = {
            name: asyncio.run(embed(server.url, texts[:COMPARED]))
            for name, server in servers.items()
        }
        differences = {
            name: float(np.abs(each - found[SERVER]).max())
            for name, each in found.items()
        }
        if max(differences.values()) > arguments.tolerance:
            raise SystemExit(f"the embeddings differ: {differences}")
        results = asyncio.run(compete(servers, texts, arguments))
    print(table(results, list(servers)))
    told = ", ".join(f"{name} {each:.1e}" for name, each in differences.items())
    print(f"\nLargest difference from {SERVER}'s embeddings: {told}.")
    generator = max(one["generator"] for one in results)
    print(f"The generator used at most {generator:.2f} cores, beside the servers.")
    if arguments.json:
        facts = {"machine": rounds.machine(), "results": results}
        Path(arguments.json).write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
