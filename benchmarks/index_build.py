"""An index of a million vectors: building it, adding to it, what it takes.

    python -m simcse_tf.encode --model MODEL --input sentences.txt --output real.npy
    python benchmarks/index_build.py --texts sentences.txt --embeddings real.npy

Writes the sentences' embeddings, and then perturbed ones, to a Parquet file as `encode`
does, with ids, texts and two columns of metadata; builds an index from it in a process
of its own, adds a hundredth to it in another, removes as many, and prints time, peak
memory and size. Memory is that of the process alone, and with the mapped files, which
the kernel takes back when others need it. Last, what one row costs to read.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from simcse_tf.core.vectors import l2_normalize
from simcse_tf.encoding.embedding_files import (
    EmbeddingsAbout,
    embedding_column,
    embedding_schema,
)
from simcse_tf.indexing.index import Index

POLL_SECONDS = 0.05
BLOCK = 16384
# How far a perturbed vector is from the real one: a cosine of about 0.9.
NOISE = 0.5


def perturbed(real: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """The real vectors, then these again and again with noise; float32 blocks."""
    chance = np.random.default_rng(0)
    for start in range(0, rows, BLOCK):
        numbers = np.arange(start, min(start + BLOCK, rows))
        block = real[numbers % len(real)]
        noise = l2_normalize(chance.standard_normal(block.shape, np.float32))
        is_copy = (numbers >= len(real))[:, None]
        yield l2_normalize(block + NOISE * noise * is_copy)


def write_embeddings(path: Path, texts: list[str], real: np.ndarray, rows: int, name):
    """A Parquet file of so many rows; ids begin with `name`."""
    about = EmbeddingsAbout("perturbed", "0" * 64, real.shape[1])
    columns = [pa.field("source", pa.string()), pa.field("number", pa.int64())]
    schema = embedding_schema(about, with_text=True, metadata=columns)
    with pq.ParquetWriter(path, schema) as writer:
        row = 0
        for vectors in perturbed(real, rows):
            numbers = range(row, row + len(vectors))
            writer.write_batch(
                pa.record_batch(
                    [
                        pa.array([f"{name}{n}" for n in numbers]),
                        pa.array([text_of(texts, n) for n in numbers]),
                        embedding_column(vectors),
                        pa.array([f"source {n % 7}" for n in numbers]),
                        pa.array(numbers, pa.int64()),
                    ],
                    schema=schema,
                )
            )
            row += len(vectors)


def text_of(texts: list[str], number: int) -> str:
    copy, place = divmod(number, len(texts))
    return f"{texts[place]} ({copy})" if copy else texts[place]


def run(*arguments: str) -> dict[str, float]:
    """Runs `index`; its seconds, and peak memory in MiB."""
    begun, cpu = time.perf_counter(), cpu_seconds()
    own = whole = 0
    command = [sys.executable, "-m", "simcse_tf.index", *arguments]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stderr=log) as process,
    ):
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            anonymous, mapped = memory(process.pid)
            own, whole = max(own, anonymous), max(whole, anonymous + mapped)
        if process.returncode:
            log.seek(0)
            raise SystemExit(log.read().decode())
    return {
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": cpu_seconds() - cpu,
        "own_mib": own / 1024,
        "mapped_mib": whole / 1024,
    }


def cpu_seconds() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory(pid: int) -> tuple[int, int]:
    """A process' own memory, and that of files it has mapped, in KiB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return tuple(
        int(values.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssFile")
    )


def read_rows(directory: str, rows: int = 1000) -> dict[str, float]:
    """Milliseconds of opening the index, and microseconds of one row's records."""
    begun = time.perf_counter()
    index = Index.open(directory)
    opened = time.perf_counter() - begun
    found = {"open_ms": 1000 * opened}
    chance = np.random.default_rng(1)
    for at_once in (1, 10, 1000):
        asked = chance.integers(index.rows, size=(rows // at_once, at_once))
        begun = time.process_time()
        for each in asked:
            index.ids(each), index.texts(each), index.metadata(each)
        seconds = (time.process_time() - begun) / asked.size
        found[f"row_us_{at_once}_at_once"] = 1e6 * seconds
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", required=True, help="a sentence a line")
    parser.add_argument("--embeddings", required=True, help="a .npy file of theirs")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--kind", default="flat")
    parser.add_argument("--output", help="keeps the index here")
    arguments = parser.parse_args()
    texts = Path(arguments.texts).read_text("utf-8").split("\n")[:-1]
    real = np.load(arguments.embeddings)
    with tempfile.TemporaryDirectory(dir=".") as place:
        files = [f"{place}/all.parquet", f"{place}/more.parquet"]
        more = arguments.rows // 100
        write_embeddings(Path(files[0]), texts, real, arguments.rows, "a")
        write_embeddings(Path(files[1]), texts, real[::-1], more, "b")
        index = arguments.output or f"{place}/index"
        chosen = ["--dtype", arguments.dtype, "--kind", arguments.kind]
        figures = {
            "build": run("build", "--index", index, "--embeddings", files[0], *chosen),
            "add": run("add", "--index", index, "--embeddings", files[1]),
        }
        ids = Path(place, "ids.txt")
        ids.write_text("".join(f"b{n}\n" for n in range(more)))
        figures["remove"] = run("remove", "--index", index, "--ids", str(ids))
        figures["check"] = run("info", "--index", index, "--check")
        figures["read"] = read_rows(index)
        figures["mb"] = (
            sum(
                path.stat().st_size for path in Path(index).rglob("*") if path.is_file()
            )
            / 1e6
        )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
