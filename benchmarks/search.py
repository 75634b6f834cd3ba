"""Searching indexes: recall, speed and size of each kind, beside faiss called by hand.

    python benchmarks/search.py kinds --embeddings real.npy --output runs/search
    python benchmarks/search.py exact --embeddings real.npy --rows 400000

`real.npy` holds embeddings of real sentences, as `encode` writes them: a thousand
queries; the others come first in an index, and then again and again, each time
moved a little: to a cosine of about 0.86 with where they were.

Everything runs on one thread and is measured in its CPU time, so that others on the
machine do not count: "queries a second" are those of one core.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"

import numpy as np  # noqa: E402

QUERIES = 1000
K = 10
NOISE = 0.03
BLOCK = 8192
EFFORTS = {"hnsw": (16, 32, 64, 128, 256), "ivfpq": (4, 16, 64, 128, 256)}
ROUNDS = 2


def corpus(real: np.ndarray, rows: int, start: int = 0) -> Iterator[np.ndarray]:
    """Blocks of unit vectors: real ones, then moved ones."""
    for first in range(start, rows, BLOCK):
        numbers = np.arange(first, min(rows, first + BLOCK))
        random = np.random.default_rng(first)
        block = real[numbers % len(real)].astype(np.float32)
        noise = random.standard_normal(block.shape, dtype=np.float32)
        block += NOISE * noise * (numbers >= len(real))[:, None]
        yield block / np.linalg.norm(block, axis=1, keepdims=True)


class Source:
    """Rows of an index whose embeddings are there already."""

    untyped, ids_given, has_texts, key = False, False, True, "benchmark"

    def __init__(self, real: np.ndarray, rows: int):
        from simcse_tf.indexing.sources import Origin

        self.name = f"{rows} rows"
        self.origin = Origin(
            model="benchmark", fingerprint="0" * 64, dimension=real.shape[1]
        )
        self._real, self._rows = real, rows

    def records(self) -> Iterator[Any]:
        from simcse_tf.encoding.records import Record

        for row in range(self._rows):
            yield Record(str(row), f"The text of row {row} of the index.".encode(), {})

    def embeddings(
        self, texts: Any, start: int, rows: int, advance: Callable[[int], object]
    ) -> Iterator[np.ndarray]:
        for block in corpus(self._real, rows, start):
            yield block
            advance(len(block))


def rates(count: int, **calls: Callable[[], object]) -> dict[str, float]:
    """Queries a CPU second of each, in turns; the median."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begin = time.process_time()
            call()
            seconds[name].append(time.process_time() - begin)
    return {name: count / float(np.median(each)) for name, each in seconds.items()}


def recall(found: np.ndarray, best: np.ndarray) -> float:
    pairs = zip(found, best, strict=True)
    return float(np.mean([np.isin(one, other).mean() for one, other in pairs]))


def kinds(arguments: argparse.Namespace) -> None:
    import faiss

    from simcse_tf.indexing.changes import build
    from simcse_tf.indexing.index import Index

    faiss.omp_set_num_threads(1)
    real, queries = split(arguments.embeddings)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    file = output / "search.json"
    lines = json.loads(file.read_text()) if file.exists() else []
    for rows in arguments.sizes:
        best = None
        for kind in arguments.kinds:
            place = output / f"{kind}-{rows}.index"
            shutil.rmtree(place, ignore_errors=True)
            begin, wall = time.process_time(), time.perf_counter()
            build(str(place), Source(real, rows), kind=kind)
            built = time.process_time() - begin, time.perf_counter() - wall
            index = Index.open(place)
            if best is None:
                hits = index.search(queries, K, exact=True)
                best = np.array([[hit.row for hit in each] for each in hits])
            new = measured(index, kind, queries, best)
            for line in new:
                line |= {"rows": rows, "build_cpu_s": built[0], "build_s": built[1]}
                print(json.dumps(line), flush=True)
            # What was measured before stays, but for the same again.
            same = [x for x in lines if (x["kind"], x["rows"]) == (kind, rows)]
            lines = [x for x in lines if x not in same] + new
            file.write_text(json.dumps(lines, indent=1))
            if not arguments.keep:
                shutil.rmtree(place)


def measured(
    index: Any, kind: str, queries: np.ndarray, best: np.ndarray
) -> list[dict[str, Any]]:
    import faiss

    candidates = index.manifest.candidates
    if candidates.file is None:
        by_hand = faiss.IndexFlatIP(index.dimension)
        for _, block in index.blocks():
            by_hand.add(block)
        efforts: tuple[int | None, ...] = (None,)
    else:
        by_hand = proposing = faiss.read_index(
            str(index.directory / candidates.file.path)
        )
        efforts = EFFORTS[kind]
    if kind == "ivfpq":
        # Its codes are coarse: as faiss' guide has it, the best are compared again.
        whole = np.concatenate([block for _, block in index.blocks()])
        by_hand = faiss.IndexRefineFlat(proposing, faiss.swig_ptr(whole))
        by_hand.k_factor = 10
    size = candidates.file.size if candidates.file else 0
    lines = []
    for effort in efforts:
        if kind == "hnsw":
            proposing.hnsw.efSearch = effort
        elif kind == "ivfpq":
            proposing.nprobe = effort
        hits = index.search(queries, K, effort=effort)
        found = np.array([[hit.row for hit in each] for each in hits])
        few = queries[:50]
        together = rates(
            len(queries),
            ours=lambda effort=effort: index.search(queries, K, effort=effort),
            faiss=lambda: by_hand.search(queries, K),
        )
        alone = rates(
            len(few),
            ours=lambda effort=effort, few=few: [
                index.search(query[None], K, effort=effort) for query in few
            ],
            faiss=lambda few=few: [by_hand.search(query[None], K) for query in few],
        )
        lines.append(
            {
                "kind": kind,
                "effort": effort,
                "recall": recall(found, best),
                "faiss_recall": recall(by_hand.search(queries, K)[1], best),
                "rate": together["ours"],
                "faiss_rate": together["faiss"],
                "single_rate": alone["ours"],
                "faiss_single_rate": alone["faiss"],
                "candidates_bytes": size,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    return lines


def plot(arguments: argparse.Namespace) -> None:
    from simcse_tf import figures

    lines = json.loads((Path(arguments.output) / "search.json").read_text())
    largest = max(line["rows"] for line in lines)
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        if line["rows"] == largest:
            point = line["recall"], line["rate"]
            curves.setdefault(line["kind"], []).append(point)
            if line["kind"] != "flat":
                point = line["faiss_recall"], line["faiss_rate"]
                curves.setdefault(f"{line['kind']}, faiss by hand", []).append(point)
    figure = figures.recall_over_rate(curves)
    Path(arguments.svg).write_text(figures.to_svg(figure))


def exact(arguments: argparse.Namespace) -> None:
    """`top_k` of this checkout and of others, each in a process of its own."""
    real, queries = split(arguments.embeddings)
    file = Path(arguments.work) / "exact.npy"
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = arguments.rows, real.shape[1]
    array = np.lib.format.open_memmap(file, "w+", np.float32, shape)
    for first, block in enumerate(corpus(real, arguments.rows)):
        array[first * BLOCK : first * BLOCK + len(block)] = block
    array.flush()
    np.save(file.with_name("queries.npy"), queries)
    here = str(Path(__file__).resolve().parents[1])
    for count in arguments.queries:
        for checkout in (here, *arguments.against, "faiss"):
            command = [sys.executable, __file__, "once", str(file), str(count)]
            path = here if checkout == "faiss" else checkout
            environment = {**os.environ, "PYTHONPATH": path}
            command += ["--faiss"] * (checkout == "faiss")
            done = subprocess.run(
                command, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            print(f"{count} queries, {checkout}: {done.stdout.strip()}", flush=True)
    shutil.rmtree(file.parent)


def once(arguments: argparse.Namespace) -> None:
    file = Path(arguments.file)
    queries = np.load(file.with_name("queries.npy"))
    queries = queries[np.arange(arguments.count) % len(queries)]
    vectors = np.load(file)
    if arguments.faiss:
        import faiss

        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)

        def search() -> np.ndarray:
            return index.search(queries, K)[1]
    else:
        from simcse_tf.search.exact import top_k

        def search() -> np.ndarray:
            return top_k(queries, vectors, K)[0]

    before = peak_kib(reset=True)
    seconds = []
    for _ in range(1 if arguments.count > 100 else ROUNDS):
        begin = time.process_time()
        found = search()
        seconds.append(time.process_time() - begin)
    more = (peak_kib() - before) / 1024
    print(
        f"{np.median(seconds):.2f} s of one core, {more:.0f} MiB beside the vectors, "
        f"rows add up to {found.sum()}"
    )


def peak_kib(reset: bool = False) -> int:
    """The most memory since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def split(file: str) -> tuple[np.ndarray, np.ndarray]:
    vectors = np.load(file).astype(np.float32)
    # Files are often sorted by where the sentences come from.
    vectors = np.random.default_rng(0).permutation(vectors)
    return vectors[:-QUERIES], vectors[-QUERIES:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    each = commands.add_parser("kinds", help="build and search each kind of index")
    each.add_argument("--embeddings", required=True, metavar="FILE.npy")
    each.add_argument("--sizes", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    each.add_argument("--kinds", nargs="+", default=["flat", "hnsw", "ivfpq"])
    each.add_argument("--output", default="runs/search", metavar="DIR")
    each.add_argument("--keep", action="store_true", help="the indexes")
    each.set_defaults(command=kinds)
    drawn = commands.add_parser("plot", help="draw what `kinds` has measured")
    drawn.add_argument("--output", default="runs/search", metavar="DIR")
    drawn.add_argument("--svg", default="docs/search.svg", metavar="FILE")
    drawn.set_defaults(command=plot)
    plain = commands.add_parser("exact", help="exact search, also of other checkouts")
    plain.add_argument("--embeddings", required=True, metavar="FILE.npy")
    plain.add_argument("--rows", type=int, default=400_000)
    plain.add_argument("--queries", type=int, nargs="+", default=[1, 1000])
    plain.add_argument("--against", nargs="*", default=[], metavar="CHECKOUT")
    plain.add_argument("--work", default="runs/exact", metavar="DIR")
    plain.set_defaults(command=exact)
    single = commands.add_parser("once")
    single.add_argument("file")
    single.add_argument("count", type=int)
    single.add_argument("--faiss", action="store_true")
    single.set_defaults(command=once)
    arguments = parser.parse_args()
    arguments.command(arguments)


if __name__ == "__main__":
    main()
