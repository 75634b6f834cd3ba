"""Training beside a PyTorch loop that follows the paper's recipe.

    python benchmarks/training.py --train triplets.csv --precision bfloat16

The same weights (MiniLM), sentences and batches, in turn: dropout 0.1, length 32,
temperature 0.05, Adam, gradients clipped to 1. Each round is the next steps of one
run. The losses show that both learn. A `.txt` file is unsupervised. `--against`
compares with another checkout of the project instead.
"""

import os
import sys
import time
from pathlib import Path
from statistics import median

import rounds
from encoding import DENSE, PACKAGE, limits, package_directory

OURS, THEIRS = "simcse_tf", "PyTorch loop"
LENGTH = 32
# Before the first round: every size of batch has then been met, or nearly.
WARM_UP = 12


def work(train: str, precision: str, batch_size: str, steps: str) -> None:
    """Our contestant."""
    from simcse_tf import SimCSE
    from simcse_tf.data.batches import training_batches
    from simcse_tf.data.sources import open_source
    from simcse_tf.training import optimizer

    dtype = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]
    model = SimCSE.from_preset(
        f"package://{PACKAGE}/model",
        pooling="cls",
        max_length=LENGTH,
        dropout=0.1,
        dtype=dtype,
    )
    model.compile(optimizer.adam(5e-5))
    source = open_source(train)
    done = 0

    def fit(count: int) -> dict:
        nonlocal done
        batches = training_batches(source, int(batch_size), done, done + count)
        begun = time.perf_counter()
        history = model.fit(batches, verbose=0)
        seconds = time.perf_counter() - begun
        done += count
        examples = count * int(batch_size)
        return {"rate": examples / seconds, "loss": history.history["loss"][-1]}

    fit(WARM_UP)
    rounds.answer(lambda: fit(int(steps)))


def write_batches(train: str, batch_size: int, count: int, out: Path) -> int:
    """The batches of our run for the other contestant; returns its mean of tokens.

    Lines of columns, a tab between them, in the order in which ours takes them.
    """
    import tensorflow as tf

    from simcse_tf import SimCSE
    from simcse_tf.data.batches import training_batches
    from simcse_tf.data.sources import open_source

    source = open_source(train)
    batches = training_batches(source, batch_size, 0, count)
    lines, columns = [], []
    for batch in batches:
        texts = [column.numpy() for column in tf.nest.flatten(batch)]
        columns += [text for column in texts for text in column]
        lines += [b"\t".join(row) for row in zip(*texts, strict=True)]
    out.write_bytes(b"\n".join(lines))
    tokenize = SimCSE.from_preset(
        f"package://{PACKAGE}/model", max_length=LENGTH
    ).tokenize
    passes = 2 if len(columns) == len(lines) else 1
    return passes * sum(map(len, tokenize(columns))) // len(lines)


def main() -> None:
    parser = rounds.parser(__doc__)
    parser.add_argument("--train", required=True, help="a training file")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10, help="of a round")
    arguments = parser.parse_args()
    if arguments.against:
        settings = [arguments.precision, arguments.batch_size, arguments.steps]
        work = ["--work", Path(arguments.train).resolve(), *settings]
        ours = (OURS, sys.executable, __file__, *work)
        other = rounds.other_checkout(arguments.against, __file__, *work)
        rounds.compare_checkouts(ours, other, "examples/s", arguments.rounds)
        return
    python = rounds.peers_python(arguments.peers_python)
    train, size, steps = arguments.train, arguments.batch_size, arguments.steps
    needed = WARM_UP + steps * (arguments.rounds + 1)
    with rounds.scratch() as directory:
        source = directory / "batches.tsv"
        tokens = write_batches(train, size, needed, source)
        weights = package_directory() / "model"
        loop = rounds.PEERS / "training_loop.py"
        settings = (arguments.precision, size, steps)
        first, results = rounds.compete(
            [
                (OURS, sys.executable, __file__, "--work", train, *settings),
                (THEIRS, python, loop, weights, source, *settings, WARM_UP),
                *limits(python, arguments.precision),
            ],
            arguments.rounds,
        )
    measured = rounds.rates(results)
    limit = max(map(max, (measured.pop("limit"), measured.pop("limit torch"))))
    rounds.print_ratios(measured, OURS, "examples/s")
    rounds.print_cores(results)
    print(f"{tokens} tokens an example; limit {limit:.0f} GFLOP/s")
    for name in measured:
        losses = [each["loss"] for each in results[name]]
        # The backward pass costs twice the forward.
        share = median(measured[name]) * tokens * 3 * DENSE / 1e9 / limit
        print(
            f"{name}: loss {losses[0]:.4f} to {losses[-1]:.4f}; "
            f"{share:.0%} of the limit"
        )
    rounds.write(
        arguments,
        "examples/s",
        measured,
        {"limit": limit, "first": first, "results": results},
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    else:
        main()
