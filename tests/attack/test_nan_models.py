"""Models whose numbers are not finite: every way in tells it, and leaves no file."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest
import tensorflow as tf
from support.models import SENTENCES, make_workspace

from simcse_tf import SimCSE, encode, evaluate, export, report, retrieve, train
from simcse_tf.core.errors import NotFinite, UserError
from simcse_tf.encoding import file
from simcse_tf.evaluation.geometry import stsb_geometry
from simcse_tf.evaluation.sts import load_task
from simcse_tf.exporting import check
from simcse_tf.exporting.sentence_transformers import export_sentence_transformers
from simcse_tf.model import bulk
from simcse_tf.training.config import load_config

STS = ["--data", "senteval", "--tasks", "STS-B"]
TEXTS = ["--queries", "texts.txt", "--corpus", "texts.txt"]
OTHERS = ["--format", "sentence-transformers"]
COMMANDS = {
    "encode": (encode, ["--input", "texts.txt", "--output", "o/x.npy"]),
    "evaluate": (evaluate, [*STS, "--json", "o/x.json"]),
    "retrieve": (retrieve, [*TEXTS, "--output", "o/x.txt"]),
    "export": (export, ["--output", "o/x"]),
    "export for others": (export, [*OTHERS, "--output", "o/x"]),
}
OF_THE_MODEL = "the weights of model: .* token_embedding/embeddings holds NaN"
OF_A_ROW = "embeddings, row 1: expected finite numbers, received"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny_preset):
    """Data, and a model in KerasHub's format of which one number is NaN."""
    directory = make_workspace(tmp_path_factory.mktemp("nan"), tiny_preset)
    (directory / "texts.txt").write_text("\n".join(SENTENCES))
    (directory / "o").mkdir()
    shutil.copytree(tiny_preset, directory / "model")
    with h5py.File(directory / "model" / "model.weights.h5", "r+") as weights:
        weights["layers/reversible_embedding/vars/0"][2000, 3] = np.nan
    return directory


@pytest.fixture
def inside(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    return workspace


@pytest.mark.parametrize("name", COMMANDS)
def test_a_model_with_nan_is_an_error_of_every_command(inside, name):
    command, arguments = COMMANDS[name]
    with pytest.raises(UserError, match=OF_THE_MODEL):
        command.main(["--model", "model", *arguments])
    assert os.listdir("o") == []


@pytest.mark.parametrize(
    "setting",
    [
        "training.learning_rate=1e30",
        "training.clip_norm=1e-320",
        "objective.temperature=1e-320",
        "objective.mlm_weight=1e38",
        "objective.hard_negative_weight=1e308",
        "model.dropout=0.9999999",
    ],
)
def test_a_setting_that_can_only_diverge_leaves_no_run(inside, setting):
    key = setting.partition("=")[0]
    with pytest.raises(UserError, match=f"{key}: expected .* to .*, received "):
        train.main(["--config", "config.json", "--set", "output_dir=none", setting])
    assert not (inside / "none").exists()


def test_training_does_not_start_from_a_model_with_nan(inside):
    arguments = ["--config", "config.json", "--set", "model.preset=model"]
    with pytest.raises(UserError, match=OF_THE_MODEL):
        train.main([*arguments, "output_dir=run"])
    assert not (inside / "run" / "metrics.jsonl").exists()


def test_a_report_of_a_run_whose_best_model_has_nan_is_an_error(inside, tmp_path):
    """As versions before this one left it."""
    run = tmp_path / "run"
    shutil.copytree("model", run / "best")
    (run / "config.json").write_text(load_config("config.json").to_json())
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(UserError, match="the weights of .*run/best: .* holds NaN"):
        report.main(["--run", str(run), "--tasks", "sts", "--data", "senteval"])
    assert not (run / "report.html").exists()


def test_an_embedding_that_is_not_finite_is_an_error_wherever_it_is_computed(
    inside, tiny_preset, tmp_path
):
    """Weights can be finite and so large that what they compute is not."""
    model = SimCSE.from_preset(str(tiny_preset), pooling="avg")
    for weight in model.weights:
        if weight.path.endswith("gamma"):
            weight.assign(weight * 3e38)
    pairs = load_task("senteval", "STSBenchmark", "dev")
    for embed in (
        lambda: model.predict(SENTENCES, verbose=0),
        lambda: bulk.encode(model, SENTENCES),
        lambda: stsb_geometry(lambda s: np.full((len(s), 4), np.nan), pairs),
        lambda: file.encode_file(model, "texts.txt", str(tmp_path / "x")),
        lambda: export.export(model, str(tmp_path)),
        lambda: export_sentence_transformers(model, str(tmp_path / "x")),
    ):
        with pytest.raises(NotFinite, match=OF_A_ROW):
            embed()
        assert not {"x", "1"} & set(os.listdir(tmp_path))


def test_a_row_that_is_not_finite_is_told_by_its_line_and_not_counted_as_done(
    inside, tiny_preset, monkeypatch, tmp_path
):
    model, output = SimCSE.from_preset(str(tiny_preset)), str(tmp_path / "x.npy")
    right = bulk.encode(model, SENTENCES)
    embedding = bulk._embedding

    def broken(*arguments):
        embed = embedding(*arguments)
        calls = []

        def embed_two_blocks(tokens, batch):
            calls.append(batch)
            return embed(tokens, batch) * (1 if len(calls) < 3 else np.nan)

        return embed_two_blocks

    monkeypatch.setattr(bulk, "BLOCK", 2)
    with monkeypatch.context() as patch:
        patch.setattr(bulk, "_embedding", broken)
        with pytest.raises(NotFinite, match="embeddings, row 5: "):
            file.encode_file(model, "texts.txt", output)
    assert not os.path.exists(output)
    assert file.encode_file(model, "texts.txt", output) == len(SENTENCES)
    np.testing.assert_allclose(np.load(output), right, atol=1e-6)


def test_an_export_that_answers_nan_as_it_recorded_is_not_sound():
    answer = np.full((2, 4), np.nan, np.float32)
    with pytest.raises(UserError, match="row 1: expected finite numbers"):
        check._compare(
            "embedding", tf.constant(answer), answer, check.TOLERANCES["float32"]
        )
