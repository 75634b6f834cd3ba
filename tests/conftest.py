"""What the tests share: real data where it is, real weights, and a small model."""

import gc
import os
from pathlib import Path

import pytest
from support.models import MINILM, ROOT, make_preset, run_eagerly

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# The wings that train, or that rest on Keras' private names.
KERAS_WINGS = {"encoders", "objectives", "model", "training", "distributed"}


# Files that fork the worker itself, hundreds of times: a fork takes time in proportion
# to the worker's memory, which grows by gigabytes with the models that tests make.
FORKING = ["test_kill_points.py", "test_kill_points_of_commands.py", "test_exports.py"]
# Then the longest files, lest one is left for the end, when a core is idle.
LONG = ["test_faults.py", "test_simcse.py", "test_export.py", "test_compilation.py"]
LONG += ["test_report.py", "test_matrix.py", "test_bert_tokenizer.py", "test_train.py"]
LONG += ["test_figures.py", "test_multi_worker.py", "test_gradient_caching.py"]
LONG += ["test_evaluate.py", "test_settings.py", "test_quickstart.py"]
LONG += ["test_examples.py", "test_web_page.py", "test_int8_model.py"]
LONG += ["test_mixed_precision.py", "test_divergence.py", "test_transfer.py"]
LONG += ["test_families.py", "test_queued_and_scored_runs.py", "test_teacher.py"]
LONG += ["test_prompts.py", "test_unigram.py", "test_dev_data.py", "test_grpc.py"]
LONG += ["test_exported_families.py", "test_bert_encoder.py", "test_masked_lm.py"]
LONG += ["test_windows.py", "test_keras_habits.py", "test_devices.py"]
LONG += ["test_word_replacement.py", "test_conformance.py", "test_sweep.py"]
LONG += ["test_sentence_transformers.py", "test_false_negatives.py"]
LONG += ["test_strategies.py", "test_rollout.py"]
FIRST = {name: place for place, name in enumerate([*FORKING, *LONG])}


# Before pytest's own hook, which selects by `-m`.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts some files first, and marks the tests of some wings `keras`."""
    items.sort(key=lambda item: FIRST.get(item.path.name, len(FIRST)))
    for item in items:
        if item.path.parent.name in KERAS_WINGS:
            item.add_marker("keras")


@pytest.fixture(scope="module", autouse=True)
def _skip_what_is_there():
    """Garbage collections look through what a file makes, not through what it finds.

    That is TensorFlow, and the graphs of all files before.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def small_tasks():
    """Takes task files of any size for SentEval's."""
    from simcse_tf.evaluation import counts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "STS", {})
        patch.setattr(counts, "TRANSFER", {})
        yield


@pytest.fixture
def eagerly():
    """Without graphs, where they are not the point."""
    with run_eagerly():
        yield


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
    from support.servers import export

    base_path = tmp_path_factory.mktemp("models") / "simcse"
    export(base_path)
    return base_path


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory) -> Path:
    """One layer, where their number does not matter: a step is traced in less time."""
    return make_preset(tmp_path_factory.mktemp("tiny") / "preset", layers=1)


@pytest.fixture(scope="session")
def small_preset(tmp_path_factory) -> Path:
    """Three layers: the fewest on which every pooler reads other ones."""
    return make_preset(tmp_path_factory.mktemp("small") / "preset", layers=3)
