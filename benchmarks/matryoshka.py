"""What models keep of their STS score when embeddings are cut to fewer dimensions.

    python benchmarks/matryoshka.py --data senteval --dims 384 128 64 \\
        --models plain=runs/methods-unsup/base/seed-*/best \\
                 "matryoshka=runs/methods-unsup/matryoshka=*/seed-*/best"

The directories of a group are the seeds of one setting. A model encodes each sentence
once, and each number of dimensions is scored as `evaluate --truncate-dim` does it.
"""

import argparse
import glob
import statistics
import sys
from pathlib import Path

import numpy as np

from simcse_tf.encoding.model_encoder import load_encoder
from simcse_tf.evaluation.caching import CachingEncoder
from simcse_tf.evaluation.results import Tasks, evaluate
from simcse_tf.evaluation.tasks import find_data, load_tasks


def main() -> None:
    arguments = parse()
    tasks = load_tasks(find_data(arguments.data), ["sts"])
    print(f"| | {' | '.join(f'{dim} dimensions' for dim in arguments.dims)} |")
    print(f"|---|{'--:|' * len(arguments.dims)}")
    for name, pattern in (group.split("=", 1) for group in arguments.models):
        directories = sorted(glob.glob(pattern))
        if not directories:
            sys.exit(f"--models: expected directories, found none at {pattern}")
        seeds = [averages(path, tasks, arguments.dims) for path in directories]
        cells = [spread(values) for values in zip(*seeds, strict=True)]
        print(f"| {name}, {len(seeds)} seeds | {' | '.join(cells)} |", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="SentEval directory")
    parser.add_argument("--models", required=True, nargs="+", metavar="NAME=GLOB")
    parser.add_argument("--dims", type=int, nargs="+", default=[384, 128, 64])
    return parser.parse_args()


def averages(directory: str, tasks: Tasks, dims: list[int]) -> list[float]:
    """The average of the STS tasks for each number of dimensions."""
    whole = CachingEncoder(load_encoder(directory, normalize=False))

    def cut(dim: int, sentences: list[str]) -> np.ndarray:
        return whole(sentences)[:, :dim]

    return [evaluate(lambda texts, d=dim: cut(d, texts), tasks)["avg"] for dim in dims]


def spread(values: tuple[float, ...]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.2f} ± {deviation:.2f}"


if __name__ == "__main__":
    main()
