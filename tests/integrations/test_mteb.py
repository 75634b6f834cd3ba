import importlib.util
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from support.models import ROOT, SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.integrations import mteb
from simcse_tf.integrations.mteb import MTEBEncoder

PROMPTS = {
    "query": "find: ",
    "document": "text: ",
    "STS": "same: ",
    "Retrieval-query": "search: ",
    "Quora": "quora: ",
    "Quora-document": "duplicate: ",
}
BATCHES = [{"text": SENTENCES[:5]}, {"text": SENTENCES[5:]}]


@pytest.fixture(scope="module")
def model(tiny_preset):
    settings = {"prompts": PROMPTS, "prompt": "usual: ", "pooling": "avg"}
    return SimCSE.from_preset(str(tiny_preset), **settings)


@pytest.fixture
def encoder(model, monkeypatch):
    """A wrapper made as if mteb was installed; only `mteb_model_meta` asks for it."""
    monkeypatch.setattr(mteb, "require", lambda *modules, extra: None)
    monkeypatch.setattr(mteb, "_load_triton_first", lambda: None)
    return MTEBEncoder(model)


@pytest.mark.parametrize(
    ("task", "kind", "side", "prompt"),
    [
        ("Quora", "Retrieval", "document", "duplicate: "),
        ("Quora", "Retrieval", "query", "quora: "),
        ("MSMARCO", "Retrieval", "query", "search: "),
        ("MSMARCO", "Retrieval", "document", "text: "),
        ("STS12", "STS", None, "same: "),
        ("Banking", "Classification", None, "usual: "),
    ],
)
def test_the_most_specific_prompt_stands_before_the_texts(
    encoder, model, task, kind, side, prompt
):
    found = encoder.encode(
        iter(BATCHES),
        task_metadata=SimpleNamespace(name=task, type=kind),
        hf_split="test",
        hf_subset="default",
        prompt_type=SimpleNamespace(value=side) if side else None,
        batch_size=4,
    )
    assert model.prompt == "usual: "
    model.prompt = ""
    expected = model.predict([prompt + text for text in SENTENCES], verbose=0)
    model.prompt = "usual: "
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_similarities_are_cosines_of_rows_of_any_length(encoder):
    a, b = [[3.0, 4.0], [0.0, 2.0]], [[0.0, 1.0], [5.0, 0.0]]
    np.testing.assert_allclose(encoder.similarity(a, b), [[0.8, 0.6], [1, 0]])
    np.testing.assert_allclose(encoder.similarity_pairwise(a, b), [0.8, 0])
    np.testing.assert_allclose(encoder.similarity(a[0], b[0]), [[0.8]])


def test_another_precision_or_device_is_refused(encoder, model):
    task = SimpleNamespace(name="STS12", type="STS")
    with pytest.raises(UserError, match="precision: expected float32, received int8"):
        encoder.encode(BATCHES, task_metadata=task, precision="int8")
    with pytest.raises(UserError, match="device: received cuda:1"):
        MTEBEncoder(model, device="cuda:1")
    with pytest.raises(
        UserError, match="max_length: a loaded model keeps its own settings"
    ):
        MTEBEncoder(model, max_length=16)


def test_a_model_is_named_and_numbered_by_what_it_is(
    encoder, model, tiny_preset, tmp_path
):
    shutil.copytree(tiny_preset, tmp_path / "runs" / "sup" / "best")
    first = MTEBEncoder(str(tmp_path / "runs" / "sup" / "best"))
    again = MTEBEncoder(str(tiny_preset))
    shorter = MTEBEncoder(str(tiny_preset), max_length=16)
    assert first.name == "simcse_tf/sup-best"
    assert first.revision == again.revision
    assert len({first.revision, shorter.revision, encoder.revision}) == 3
    assert mteb._name_of("hf://org/name") == "org/name"
    assert mteb._name_of("bert_tiny_en_uncased") == "simcse_tf/bert_tiny_en_uncased"


def test_without_mteb_the_error_says_how_to_install_it(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(UserError, match=r'pip install "simcse-tf\[mteb\]"'):
        MTEBEncoder(model)


@pytest.mark.slow
def test_mteb_itself_runs_tasks_and_reaches_the_scores_without_it(
    data_dir, model, tmp_path
):
    python = os.environ.get("SIMCSE_MTEB_PYTHON", sys.executable)
    if python == sys.executable and importlib.util.find_spec("mteb") is None:
        pytest.skip("no mteb here; SIMCSE_MTEB_PYTHON may name a Python that has both")
    model.save_to_preset(str(tmp_path / "model"))
    sts = tmp_path / "sts.csv"
    sts.write_text("\n".join(distinct_rows(data_dir)[:60]) + "\n", "utf-8")
    tasks = ROOT / "tests" / "integrations" / "mteb_tasks.py"
    done = subprocess.run(
        [python, str(tasks), str(tmp_path / "model"), str(sts)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["conforms"]
    assert (found["name"], found["embed_dim"]) == ("tests/model", 16)
    for task in ("similarity", "search"):
        assert found[task][0] == pytest.approx(found[task][1], abs=1e-6)


def distinct_rows(data_dir):
    """Pairs of which no sentence occurs twice: a search has no ties then."""
    path = data_dir / "senteval" / "STS" / "STSBenchmark" / "sts-dev.csv"
    seen, rows = set(), []
    for line in path.read_text("utf-8").splitlines():
        pair = line.split("\t")[5:7]
        if len({*pair} - seen) == 2:
            seen.update(pair)
            rows.append(line)
    return rows
