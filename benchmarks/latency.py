"""How long a few texts take: the export, and `encode` and `predict`, beside the peers.

    python benchmarks/latency.py served --data senteval --precision bfloat16
    python benchmarks/latency.py encode --data senteval
    python benchmarks/latency.py served --data senteval --against ../before

The same weights (MiniLM) embed the same sentences, each contestant in its own process
on the same cores, in turn. `served` asks the export as TF Serving does (a TF 1
session; `threads`: with TensorFlow's default, as many threads an operation as cores),
as TensorFlow 2 does, and through the Python server's gRPC; its peers are ONNX Runtime
with `tokenizers`, in float32 and int8. `encode` measures `encode` and `predict`; its
peer is sentence-transformers on PyTorch. `--against` adds another checkout's. Prints a
Markdown table of milliseconds: p50, p95 and CPU time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rounds

COUNTS = {"served": [1, 4, 16], "encode": [1, 2, 4, 8, 16, 64, 256, 1000]}
OURS = {
    "served": ("session", "session:threads", "call", "server"),
    "encode": ("encode", "predict"),
}
PEERS = {"served": ("onnx", "onnx:int8"), "encode": ("torch",)}
# A round asks as often as this takes, on other sentences each time.
SECONDS = 1.0
CALLS = 5, 100


def measure(
    embed: Callable[[list[str]], np.ndarray], texts: list[str], counts: list[int]
) -> dict:
    """Milliseconds for so many texts: the clock of each call, and its CPU time."""
    found: dict = {}
    for count in counts:
        clock: list[float] = []
        cpu: list[float] = []
        starts = (start % (len(texts) - count) for start in range(0, 10**9, count))
        begun = time.perf_counter()
        for start in starts:
            before = time.perf_counter(), time.process_time()
            embed(texts[start : start + count])
            clock.append(1000 * (time.perf_counter() - before[0]))
            cpu.append(1000 * (time.process_time() - before[1]))
            if len(clock) >= CALLS[1] or (
                len(clock) >= CALLS[0] and time.perf_counter() - begun > SECONDS
            ):
                break
        found[str(count)] = {"clock": clock, "cpu": cpu}
    return found


def work(way: str, model: str, precision: str, threads: str, *rest: str) -> None:
    """Our contestant."""
    counts, source = rest
    way, _, several = way.partition(":")
    # As `serve` and `encode` do; `predict` runs with TensorFlow's own default.
    an_operation = threads if several or way == "predict" else "1"
    os.environ["TF_NUM_INTRAOP_THREADS"] = an_operation
    os.environ["TF_NUM_INTEROP_THREADS"] = threads
    texts = Path(source).read_text("utf-8").split("\n")
    embed = WAYS[way](model, precision)
    rounds.answer(lambda: measure(embed, texts, json.loads(counts)))


def session(directory: str, precision: str) -> Callable:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    with tf.Graph().as_default() as graph:
        made = tf.compat.v1.Session(graph=graph)
        [tag] = [tf.saved_model.SERVING]
        loaded = tf.compat.v1.saved_model.load(made, [tag], directory)
    signature = loaded.signature_def["serving_default"]
    call = made.make_callable(
        signature.outputs["embedding"].name, [signature.inputs["text"].name]
    )
    return lambda texts: call(np.array([text.encode() for text in texts], object))


def call(directory: str, precision: str) -> Callable:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    loaded = tf.saved_model.load(directory)
    function = loaded.signatures["serving_default"]

    def embed(texts: list[str]) -> np.ndarray:
        return function(text=tf.constant(texts))["embedding"].numpy()

    embed.loaded = loaded  # a function does not keep its variables
    return embed


def server(directory: str, precision: str) -> Callable:
    """The server is a process of its own: its CPU time is not counted."""
    import atexit

    from simcse_tf.client import Client

    command = [sys.executable, "-m", "simcse_tf.serve"]
    base = f"--model_base_path={Path(directory).parent}"
    started = subprocess.Popen(
        [*command, "--port=0", "--rest_api_port=0", base],
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(started.terminate)
    assert started.stdout
    port = started.stdout.readline().rpartition(":")[2].strip()
    return Client(f"127.0.0.1:{port}").encode


def bulk(preset: str, precision: str) -> Callable:
    from simcse_tf.encode import encode

    model = loaded(preset, precision)
    return lambda texts: encode(model, texts)


def predict(preset: str, precision: str) -> Callable:
    return loaded(preset, precision).predict


def loaded(preset: str, precision: str):
    from simcse_tf import SimCSE

    dtype = {"bfloat16": "mixed_bfloat16"}.get(precision, precision)
    return SimCSE.from_preset(preset, pooling="avg", dtype=dtype)


WAYS = {
    "session": session,
    "call": call,
    "server": server,
    "encode": bulk,
    "predict": predict,
}


def contestants(arguments: argparse.Namespace, directory: Path) -> list[tuple]:
    from encoding import PACKAGE, package_directory, sentences

    source = directory / "sentences.txt"
    source.write_text("\n".join(sentences(arguments.data, 4000)), "utf-8")
    counts = json.dumps(COUNTS[arguments.what])
    preset = f"package://{PACKAGE}/model"
    checkouts = {"ours": rounds.HERE.parent}
    if arguments.against:
        checkouts["before"] = Path(arguments.against).resolve()
    starts = []
    for name, root in checkouts.items():
        model = preset
        if arguments.what == "served":
            model = str(directory / name / "1")
            export(root, preset, directory / name, arguments.precision)
        python = ("/usr/bin/env", f"PYTHONPATH={root}", sys.executable, __file__)
        settings = (model, arguments.precision, arguments.threads, counts, source)
        for way in OURS[arguments.what]:
            starts.append((f"{name}, {way}", *python, "--work", way, *settings))
    peers = rounds.peers_python(arguments.peers_python)
    worker = rounds.HERE / "peers" / "latency_worker.py"
    for backend in PEERS[arguments.what]:
        settings = (package_directory() / "model", arguments.threads, counts, source)
        starts.append((backend, peers, worker, backend, *settings))
    return starts


def export(root: Path, preset: str, directory: Path, precision: str) -> None:
    command = [sys.executable, "-m", "simcse_tf.export", "--model", preset]
    settings = ["--pooling", "avg", "--output", directory, "--precision", precision]
    environment = os.environ | {"PYTHONPATH": str(root)}
    subprocess.run([*command, *settings], check=True, env=environment)


def table(results: dict[str, list[dict]], counts: list[int]) -> str:
    lines = ["| | " + " | ".join(f"{count} texts" for count in counts) + " |"]
    lines.append("|---|" + "---|" * len(counts))
    for name, answers in results.items():
        cells = [cell([each[str(count)] for each in answers]) for count in counts]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(answers: list[dict]) -> str:
    """The median of the rounds."""

    def median(kind: str, share: float) -> str:
        each = [float(np.quantile(answer[kind], share)) for answer in answers]
        return f"{statistics.median(each):.1f}"

    clock = f"{median('clock', 0.5)}, {median('clock', 0.95)}"
    return f"{clock} ({median('cpu', 0.5)})"


def main() -> None:
    parser = rounds.parser(__doc__, ("float32", "bfloat16", "int8"))
    parser.add_argument("what", choices=COUNTS)
    parser.add_argument("--data", required=True, help="directory that holds STS/")
    parser.add_argument("--threads", type=int, default=1, help="and as many cores")
    arguments = parser.parse_args()
    # Contestants inherit it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-arguments.threads :])
    with rounds.scratch() as directory:
        starts = contestants(arguments, directory)
        _, results = rounds.compete(starts, arguments.rounds)
    for each in results.values():
        for answers in each:
            answers.pop("cores")
    print(
        f"p50, p95 (CPU time) in ms; {arguments.precision}, {arguments.threads} cores"
    )
    print(table(results, COUNTS[arguments.what]))
    clocks = {
        f"{name}, {count} texts": [
            float(np.median(answers[str(count)]["clock"])) for answers in each
        ]
        for name, each in results.items()
        for count in COUNTS[arguments.what]
    }
    rounds.write(arguments, "ms", clocks, {"results": results})


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    else:
        main()
