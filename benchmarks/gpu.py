"""Training, encoding and answering on a GPU, beside PyTorch on the same card.

    python benchmarks/gpu.py --data DATA --peers-python PYTHON --out results

DATA holds `wiki_sentences.txt` and `snli_triplets.csv`. The model is a BERT of base
size with random weights, made in the output directory: to be timed, not to be scored.
`--only` takes some of the parts, `--size tiny` tries the script anywhere.

Each contestant is a process of its own; they compute in turn, in another order every
round. What one answers is printed at once and is a line of `gpu.jsonl`, so a run that
is cut off has lost little. Each part ends when `--limit` seconds are over.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import random_bert
import rounds

OURS, UNCOMPILED, AGAIN = "ours", "ours without XLA", "ours, cached"
TORCH, COMPILED_TORCH = "PyTorch", "torch.compile"
SENTENCE_TRANSFORMERS = "sentence-transformers"
LENGTH, UNTIMED, WARM_UP = 32, 3, 20
LATENCIES = "1,32,256"
SIZES = {"tiny": (2, 128), "base": (12, 768)}

# Data and batch of each training case, each at two precisions.
CASES = {
    "train wikipedia 64 bfloat16": ("wiki_sentences.txt", 64, "bfloat16"),
    "train triplets 128 bfloat16": ("snli_triplets.csv", 128, "bfloat16"),
    "train wikipedia 64 float32": ("wiki_sentences.txt", 64, "float32"),
    "train triplets 128 float32": ("snli_triplets.csv", 128, "float32"),
}
DTYPES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


# === Our contestants ===


def load(model: str, precision: str, **settings: Any) -> Any:
    from simcse_tf import SimCSE

    return SimCSE.from_preset(model, dtype=DTYPES[precision], **settings)


def train(
    model: str,
    data: str,
    precision: str,
    batch_size: str,
    steps: str,
    how: str,
    trace: str = "",
) -> None:
    import keras
    import numpy as np

    from simcse_tf.data.batches import training_batches
    from simcse_tf.data.sources import open_source
    from simcse_tf.training.optimizer import adam

    class Clock(keras.callbacks.Callback):
        """Times the steps of a `fit` but the first, in which it opens its input."""

        def on_train_batch_end(self, batch: int, logs: dict) -> None:
            if batch + 1 == UNTIMED:
                self._finish()
                self.begun = time.perf_counter()
            self.loss = logs["loss"]

        def on_train_end(self, logs: Any = None) -> None:
            self._finish()
            self.seconds = time.perf_counter() - self.begun

        def _finish(self) -> None:
            """Copies a variable from the GPU, after all that is under way."""
            variables = self.model.trainable_variables
            min(variables, key=lambda each: np.prod(each.shape)).numpy()

    keras.utils.set_random_seed(1)
    trained = load(
        model,
        precision,
        pooling="cls",
        max_length=LENGTH,
        dropout=0.1,
        static_shapes=True,
    )
    trained.compile(adam(5e-5), jit_compile=how == "compiled")
    source, size, done = open_source(data), int(batch_size), 0

    def work(count: int) -> dict:
        nonlocal done
        clock = Clock()
        end = done + UNTIMED + count
        batches = training_batches(source, size, done, end)
        done = end
        trained.fit(batches, verbose=0, callbacks=[clock])
        return {
            "rate": count * size / clock.seconds,
            "ms": 1e3 * clock.seconds / count,
            "loss": float(clock.loss),
        }

    trained.fit(training_batches(source, size, 0, 1), verbose=0)
    first = rounds.seconds_since_start()
    work(WARM_UP)
    if trace:
        rounds.answer(lambda: traced(work, int(steps), Path(trace)))
    else:
        rounds.answer(lambda: {**work(int(steps)), "first_step_s": first})


def traced(work: Callable[[int], dict], steps: int, directory: Path) -> dict:
    """Kernels and copies of a step, and the time in which the GPU is busy."""
    import gpu_trace
    import tensorflow as tf

    with tf.profiler.experimental.Profile(str(directory)):
        work(steps - UNTIMED)
    traces = directory.rglob("*.xplane.pb")
    newest = max(traces, key=lambda path: path.stat().st_mtime)
    return gpu_trace.summary(newest, steps)


def texts_of(source: str) -> list[str]:
    text = Path(source).read_text("utf-8")
    return [line for line in text.split("\n") if line.strip()]


def encode(model: str, source: str, precision: str, how: str, out: str) -> None:
    import numpy as np

    from simcse_tf.encoding.bulk import encode

    loaded, texts = load(model, precision, pooling="avg"), texts_of(source)
    if how == "compiled":
        loaded.static_shapes = True

    def work() -> dict:
        begun = time.perf_counter()
        rows = encode(loaded, texts, jit_compile=how == "compiled")
        seconds = time.perf_counter() - begun
        np.save(out, rows)
        return {"rate": len(texts) / seconds}

    first = work()["rate"]
    rounds.answer(lambda: {**work(), "first_rate": first})


def latency(model: str, source: str, precision: str, sizes: str, out: str) -> None:
    """Of an exported graph, in process."""
    import tensorflow as tf

    from simcse_tf.exporting.saved_model import export

    dtype = {"float32": "float32", "bfloat16": "bfloat16"}[precision]
    from simcse_tf import SimCSE

    version = export(SimCSE.from_preset(model, pooling="avg", dtype=dtype), out)
    answer = tf.saved_model.load(str(version)).signatures["serving_default"]
    texts = texts_of(source)

    def milliseconds(size: int) -> float:
        times = []
        for start in range(0, 20 * size, size):
            part = [texts[(start + each) % len(texts)] for each in range(size)]
            begun = time.perf_counter()
            answer(text=tf.constant(part))["embedding"].numpy()
            times.append(1e3 * (time.perf_counter() - begun))
        return statistics.median(times)

    def work() -> dict:
        return {f"ms_{size}": milliseconds(int(size)) for size in sizes.split(",")}

    work()
    rounds.answer(work)


def races(model: str, source: str, precision: str) -> None:
    """Encodes again and again on 16 threads; says whether rows were ever others."""
    import numpy as np

    from simcse_tf.encoding import bulk

    loaded, texts = load(model, precision, pooling="avg"), texts_of(source)[:4000]

    def rows(threads: int) -> Any:
        bulk.GPU_BATCHES = bulk.CORES = threads
        return bulk.encode(loaded, texts, batch_size=64)

    expected = rows(1)
    equal = [bool(np.array_equal(rows(16), expected)) for _ in range(20)]
    rounds.answer(lambda: {"runs": len(equal), "equal": sum(equal)})


# === The table ===


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

    def ours(self, name: str, *work: object) -> tuple:
        return (name, sys.executable, "-u", __file__, "--work", *work)

    def theirs(self, name: str, *work: object) -> tuple:
        python = self._arguments.peers_python
        environment = ["-u", "PYTHONPATH", "TOKENIZERS_PARALLELISM=true"]
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
        table.ours(precision, "races", model, source, precision) for precision in DTYPES
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
        texts = texts_of(str(arguments.data / "wiki_sentences.txt"))
        wikipedia.write_text("\n".join(texts[: arguments.texts]), "utf-8")
    return {"nli": out, "wikipedia": wikipedia}


PARTS = {
    "train": run_training,
    "encode": run_encoding,
    "latency": run_latency,
    "races": run_races,
    "profile": run_profile,
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
    from simcse_tf.core.compilation_cache import keep_compiled

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    keep_compiled()
    if sys.argv[1:2] == ["--work"]:
        name, *rest = sys.argv[2:]
        works = {"train": train, "encode": encode, "latency": latency, "races": races}
        works[name](*rest)
    else:
        main()
