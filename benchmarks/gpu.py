"""Training, encoding and answering on a GPU, beside PyTorch on the same card.

    python benchmarks/gpu.py --data DATA --peers-python PYTHON --out results

DATA holds `wiki_sentences.txt` and `snli_triplets.csv`. The model is a BERT of base
size with random weights, made in the output directory: to be timed, not to be scored.
`--only` takes some of the parts, `--size tiny` tries the script anywhere.

Each contestant is a process of its own; they compute in turn, in another order every
round. What one answers is printed at once and is a line of `gpu.jsonl`, so a run that
is cut off has lost little. All parts together end when `--limit` seconds are over.
Each contestant has one GPU, the first; `replicas` compares it with all there are.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import random_bert
import rounds

OURS, UNCOMPILED, AGAIN = "ours", "ours without XLA", "ours, cached"
EVERY, EVERY_UNCOMPILED = "ours, every GPU", "ours, every GPU, without XLA"
TORCH, COMPILED_TORCH = "PyTorch", "torch.compile"
SENTENCE_TRANSFORMERS = "sentence-transformers"
LATENCIES = "1,32,256"
SIZES = {"tiny": (2, 128), "base": (12, 768)}

GPUS = os.environ.get("CUDA_VISIBLE_DEVICES")
FIRST_GPU = "0" if GPUS is None else GPUS.split(",")[0]

# Data and batch of each training case, each at two precisions.
CASES = {
    "train wikipedia 64 bfloat16": ("wiki_sentences.txt", 64, "bfloat16"),
    "train triplets 128 bfloat16": ("snli_triplets.csv", 128, "bfloat16"),
    "train wikipedia 64 float32": ("wiki_sentences.txt", 64, "float32"),
    "train triplets 128 float32": ("snli_triplets.csv", 128, "float32"),
}
PRECISIONS = ("float32", "bfloat16")


class Table:
    """Runs parts, and prints and keeps what they answer.

    Args:
        arguments: The command line's.
    """

    def __init__(self, arguments: argparse.Namespace):
        self._end = time.monotonic() + arguments.limit
        self._arguments = arguments
        self._file = (arguments.out / "gpu.jsonl").open("a")

    def seconds_left(self) -> float:
        return self._end - time.monotonic()

    def say(self, **facts: Any) -> None:
        line = json.dumps(facts)
        print(line, flush=True)
        print(line, file=self._file, flush=True)

    def ours(self, name: str, *work: object, gpus: str | None = FIRST_GPU) -> tuple:
        script = rounds.HERE / "gpu_work.py"
        visible = ["-u", "CUDA_VISIBLE_DEVICES"]
        if gpus is not None:
            visible = [f"CUDA_VISIBLE_DEVICES={gpus}"]
        return (name, "/usr/bin/env", *visible, sys.executable, "-u", script, *work)

    def theirs(self, name: str, *work: object) -> tuple:
        python = self._arguments.peers_python
        environment = ["-u", "PYTHONPATH", "TOKENIZERS_PARALLELISM=true"]
        environment.append(f"CUDA_VISIBLE_DEVICES={FIRST_GPU}")
        if "TORCH_LD_LIBRARY_PATH" in os.environ:
            libraries = os.environ["TORCH_LD_LIBRARY_PATH"]
            environment.append(f"LD_LIBRARY_PATH={libraries}")
        worker = rounds.PEERS / "gpu_worker.py"
        return (name, "/usr/bin/env", *environment, python, worker, *work)

    def compete(self, part: str, starts: Sequence[tuple], count: int) -> dict:
        """Lets contestants work in turn; returns the medians."""
        starts = [each for each in starts if each[0] not in self._arguments.without]
        rounds.READY_SECONDS = rounds.ROUND_SECONDS = max(5, self.seconds_left())
        try:
            _, results = rounds.compete(starts, count, at_once=True)
        except SystemExit as error:
            self.say(part=part, error=str(error)[-1500:])
            return {}
        medians = {}
        for name, answers in results.items():
            keys = [key for key in answers[0] if key != "cores"]
            medians[name] = {
                key: round(statistics.median(each[key] for each in answers), 3)
                for key in keys
            }
            self.say(part=part, name=name, **medians[name], rounds=answers)
        return medians


def ratios(table: Table, part: str, medians: dict) -> None:
    """How many times the others' rate ours is."""
    if OURS in medians:
        for name, each in medians.items():
            if "rate" in each and name != OURS:
                times = medians[OURS]["rate"] / each["rate"]
                table.say(part=part, ours_is_so_many_times=name, ratio=round(times, 2))


def run_training(table: Table, arguments: argparse.Namespace, model: str) -> None:
    for part, (file, size, precision) in CASES.items():
        if part not in arguments.cases or table.seconds_left() < 30:
            continue
        data = arguments.data / file
        size = min(size, arguments.batch_size or size)
        work = ("train", model, data, precision, size, arguments.steps)
        starts = [
            table.ours(OURS, *work, "compiled"),
            table.ours(UNCOMPILED, *work, "plain"),
        ]
        if arguments.peers_python:
            starts.append(table.theirs(TORCH, *work, "eager"))
            starts.append(table.theirs(COMPILED_TORCH, *work, "compiled"))
        ratios(table, part, table.compete(part, starts, arguments.rounds))
        if not arguments.cached:
            continue
        again = table.ours(AGAIN, *work, "compiled")
        table.compete(f"{part}, started again", [again], 1)


def run_encoding(table: Table, arguments: argparse.Namespace, model: str) -> None:
    for name, source in sentences(arguments).items():
        part = f"encode {name} bfloat16"
        files = {each: arguments.out / f"{each}.npy" for each in (OURS, UNCOMPILED)}
        work = ("encode", model, source, "bfloat16")
        starts = [
            table.ours(OURS, *work, "compiled", files[OURS]),
            table.ours(UNCOMPILED, *work, "plain", files[UNCOMPILED]),
        ]
        if arguments.peers_python:
            out = arguments.out / "theirs.npy"
            starts.append(table.theirs(SENTENCE_TRANSFORMERS, *work, 512, out))
        ratios(table, part, table.compete(part, starts, arguments.rounds))


def run_latency(table: Table, arguments: argparse.Namespace, model: str) -> None:
    source = sentences(arguments)["nli"]
    work = ("latency", model, source, "bfloat16", LATENCIES)
    starts = [table.ours(OURS, *work, arguments.out / "export")]
    if arguments.peers_python:
        starts.append(table.theirs(SENTENCE_TRANSFORMERS, *work))
    table.compete("latency bfloat16", starts, 2)


def run_races(table: Table, arguments: argparse.Namespace, model: str) -> None:
    source = sentences(arguments)["wikipedia"]
    starts = [
        table.ours(precision, "races", model, source, precision)
        for precision in PRECISIONS
    ]
    table.compete("20 runs of 16 threads equal to one's", starts, 1)


def run_profile(table: Table, arguments: argparse.Namespace, model: str) -> None:
    file, size, precision = CASES["train wikipedia 64 bfloat16"]
    size = min(size, arguments.batch_size or size)
    work = ("train", model, arguments.data / file, precision, size, 20)
    traces = arguments.out / "traces"
    starts = [
        table.ours(OURS, *work, "compiled", traces / "compiled"),
        table.ours(UNCOMPILED, *work, "plain", traces / "plain"),
    ]
    table.compete("profile wikipedia 64 bfloat16", starts, 1)


def run_replicas(table: Table, arguments: argparse.Namespace, model: str) -> None:
    """As many sentences a replica: by what the rate grows with every GPU."""
    file, size, precision = CASES["train wikipedia 64 bfloat16"]
    size = min(size, arguments.batch_size or size)
    work = ("train", model, arguments.data / file, precision, size, arguments.steps)
    starts = [
        table.ours(OURS, *work, "compiled"),
        table.ours(EVERY, *work, "compiled", "", "mirrored", gpus=GPUS),
        table.ours(EVERY_UNCOMPILED, *work, "plain", "", "mirrored", gpus=GPUS),
    ]
    part = "train wikipedia 64 a replica bfloat16"
    ratios(table, part, table.compete(part, starts, arguments.rounds))
    source = sentences(arguments)["nli"]
    files = {each: arguments.out / f"{each}.npy" for each in (OURS, EVERY)}
    work = ("encode", model, source, precision, "compiled")
    starts = [
        table.ours(OURS, *work, files[OURS]),
        table.ours(EVERY, *work, files[EVERY], gpus=GPUS),
    ]
    part = "encode nli bfloat16, every GPU"
    if table.seconds_left() < 30:
        return
    ratios(table, part, table.compete(part, starts, arguments.rounds))
    if all(file.exists() for file in files.values()):
        one, every = (np.load(file) for file in files.values())
        table.say(part=part, equal=bool(np.array_equal(one, every)))


def sentences(arguments: argparse.Namespace) -> dict[str, Path]:
    """Wikipedia's sentences, and the shorter ones of the triplets, each once."""
    import csv

    out = arguments.out / "nli.txt"
    if not out.exists():
        with (arguments.data / "snli_triplets.csv").open(encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        texts = dict.fromkeys(text.strip() for row in rows for text in row)
        lines = [text for text in texts if text and "\n" not in text]
        out.write_text("\n".join(lines[: arguments.texts]), "utf-8")
    wikipedia = arguments.out / "wikipedia.txt"
    if not wikipedia.exists():
        texts = (arguments.data / "wiki_sentences.txt").read_text("utf-8").split("\n")
        texts = [text for text in texts if text.strip()]
        wikipedia.write_text("\n".join(texts[: arguments.texts]), "utf-8")
    return {"nli": out, "wikipedia": wikipedia}


PARTS = {
    "train": run_training,
    "encode": run_encoding,
    "latency": run_latency,
    "races": run_races,
    "profile": run_profile,
    "replicas": run_replicas,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    parser.add_argument("--peers-python", help="has torch and sentence-transformers")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, help="at most")
    parser.add_argument("--texts", type=int, default=30000)
    parser.add_argument("--without", nargs="+", default=[], metavar="CONTESTANT")
    parser.add_argument("--cached", action="store_true", help="start again, too")
    parser.add_argument("--limit", type=float, default=1800, metavar="SECONDS")
    parser.add_argument("--model", help="a directory in place of random weights")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = Table(arguments)
    model = arguments.model or random_bert.write(
        arguments.out / arguments.size, *SIZES[arguments.size]
    )
    for name in arguments.only:
        if table.seconds_left() < 20:
            table.say(part=name, error="no time left")
            continue
        PARTS[name](table, arguments, model)


if __name__ == "__main__":
    main()
