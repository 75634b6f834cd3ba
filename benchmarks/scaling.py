"""What the paper's runs cost on 1 to 64 accelerators, on paper.

    python benchmarks/scaling.py --triplet-tokens 37 --sentence-tokens 50

Measures on this machine what a gathered embedding costs, relative to a matrix product's
limit, and prints the table of `docs/scaling.md`. The accelerator's numbers are
arguments; the defaults are those of an A100 (dense bfloat16, NVLink within a machine,
200 Gbit/s for each accelerator between machines). Which share of its limit training
reaches is an assumption. The tokens of an example, all columns together, are what
`training.py` prints.
"""

import argparse
import os
import time
from typing import NamedTuple

from matrix_product import best_rate, tensorflow_product

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

REPLICAS = (1, 2, 4, 8, 16, 32, 64)
# Of one machine.
NEIGHBOURS = 8
BYTES = 4
# An operation of the forward pass costs two more in the backward pass.
PASSES = 3
ANCHORS, WIDTH = 64, 768


class Encoder(NamedTuple):
    """Parameters in the dense layers and in all, and the embeddings' size."""

    dense: int
    all: int
    width: int


BASE = Encoder(12 * 12 * 768**2, 109_482_240, 768)
LARGE = Encoder(24 * 12 * 1024**2, 335_141_888, 1024)


class Run(NamedTuple):
    """An epoch of the paper's (appendix A)."""

    name: str
    encoder: Encoder
    examples: int
    batch_size: int
    candidates: int
    tokens: float


class Step(NamedTuple):
    """Seconds of one step."""

    encode: float
    loss: float
    gather: float
    gradients: float


def step(
    run: Run, replicas: int, arguments: argparse.Namespace, loss_share: float
) -> Step:
    peak = arguments.tflops * 1e12
    within = replicas <= NEIGHBOURS
    bandwidth = 1e9 * (arguments.within if within else arguments.between)
    rows = run.batch_size / replicas
    candidates = run.candidates * run.batch_size
    others = (replicas - 1) / replicas
    moved = candidates * run.encoder.width * BYTES * others
    products = rows * candidates * run.encoder.width
    return Step(
        encode=rows
        * run.tokens
        * 2
        * PASSES
        * run.encoder.dense
        / (peak * arguments.share),
        loss=products * 2 * PASSES / (peak * loss_share),
        # Embeddings forward, their gradients backward.
        gather=2 * moved / bandwidth,
        # A ring's sum: every gradient goes round twice.
        gradients=2 * run.encoder.all * BYTES * others / bandwidth,
    )


def gathered_embedding() -> float:
    """Seconds of the loss, forward and backward, for each candidate more."""
    import tensorflow as tf

    from simcse_tf.objectives.contrastive import contrastive_loss

    @tf.function
    def gradients(anchors: tf.Tensor, candidates: tf.Tensor) -> tuple:
        with tf.GradientTape() as tape:
            tape.watch([anchors, candidates])
            loss = contrastive_loss(anchors, candidates)
        return tape.gradient(loss, [anchors, candidates])

    def seconds(count: int) -> float:
        anchors = tf.random.normal([ANCHORS, WIDTH])
        candidates = tf.random.normal([count, WIDTH])
        gradients(anchors, candidates)
        times = []
        for _ in range(7):
            begun = time.perf_counter()
            gradients(anchors, candidates)[0].numpy()
            times.append(time.perf_counter() - begun)
        return sorted(times)[3]

    few, many = 1024, 16384
    return (seconds(many) - seconds(few)) / (many - few)


def print_table(
    runs: list[Run], arguments: argparse.Namespace, loss_share: float
) -> None:
    print("| run | batch | accelerators | epoch | ", end="")
    print(" | ".join(f"{part}, ms" for part in Step._fields), "|")
    print("|---" * (4 + len(Step._fields)) + "|")
    for run in runs:
        for replicas in REPLICAS:
            parts = step(run, replicas, arguments, loss_share)
            minutes = sum(parts) * run.examples / run.batch_size / 60
            cells = [run.name, run.batch_size, replicas, f"{minutes:.2f} min"]
            cells += [f"{1e3 * part:.2f}" for part in parts]
            print("|", " | ".join(map(str, cells)), "|")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--triplet-tokens", type=float, required=True)
    parser.add_argument("--sentence-tokens", type=float, required=True)
    parser.add_argument("--tflops", type=float, default=312)
    parser.add_argument("--share", type=float, default=0.3, help="of --tflops")
    parser.add_argument("--within", type=float, default=300, help="a machine, GB/s")
    parser.add_argument("--between", type=float, default=25, help="machines, GB/s")
    parser.add_argument("--batch-size", type=int, help="in place of the paper's")
    arguments = parser.parse_args()

    limit = best_rate(tensorflow_product("float32")) * 1e9
    seconds = gathered_embedding()
    loss_share = 2 * PASSES * ANCHORS * WIDTH / seconds / limit
    print(
        f"a gathered embedding costs {ANCHORS} anchors {seconds * 1e6:.2f} us here: "
        f"{loss_share:.0%} of the limit of {limit / 1e9:.0f} GFLOP/s\n"
    )
    unsupervised, supervised = (1_000_000, 64, 1), (275_601, 512, 2)
    runs = [
        Run("unsupervised base", BASE, *unsupervised, arguments.sentence_tokens),
        Run("supervised base", BASE, *supervised, arguments.triplet_tokens),
        Run("supervised large", LARGE, *supervised, arguments.triplet_tokens),
    ]
    if arguments.batch_size:
        runs = [run._replace(batch_size=arguments.batch_size) for run in runs]
    print_table(runs, arguments, loss_share)


if __name__ == "__main__":
    main()
