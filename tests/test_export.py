import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, SENTENCES
from serving_helpers import running_server

from simcse_tf import SimCSE
from simcse_tf import export as export_module
from simcse_tf.client import Client
from simcse_tf.export import WARMUP_FILE, export

ODD = ["", "a" * 10_000, "word " * 2_000, "🙂👩‍👩‍👧", b"\xff\xfe\x00 bad", "[SEP]"]


@pytest.fixture(scope="module")
def model(small_preset):
    return SimCSE.from_preset(str(small_preset), max_length=32)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    base = tmp_path_factory.mktemp("export")
    return export(model, str(base))


def test_both_signatures_answer_as_the_model_does(model, exported):
    signatures = tf.saved_model.load(str(exported)).signatures
    texts = [text.encode() for text in SENTENCES] + [
        text if isinstance(text, bytes) else text.encode() for text in ODD
    ]
    expected = model.predict(texts, verbose=0)
    received = signatures["serving_default"](text=tf.constant(texts))["embedding"]
    np.testing.assert_allclose(received, expected, atol=1e-6)
    cosine = signatures["similarity"](
        text_a=tf.constant(texts), text_b=tf.constant(texts[::-1])
    )
    np.testing.assert_allclose(
        cosine["cosine_similarity"], (expected * expected[::-1]).sum(1), atol=1e-6
    )


def test_names_types_and_shapes_are_the_served_interface(exported):
    signatures = tf.saved_model.load(str(exported)).signatures
    for name, inputs, outputs in (
        ("serving_default", {"text"}, {"embedding": (None, 16)}),
        ("similarity", {"text_a", "text_b"}, {"cosine_similarity": (None,)}),
    ):
        signature = signatures[name]
        received = signature.structured_input_signature[1]
        assert set(received) == inputs
        assert all(spec.dtype == tf.string for spec in received.values())
        assert {
            key: (tuple(spec.shape), spec.dtype)
            for key, spec in signature.structured_outputs.items()
        } == {key: (shape, tf.float32) for key, shape in outputs.items()}


def test_a_version_holds_warmup_requests_for_both_signatures(exported):
    from tensorflow_serving.apis import prediction_log_pb2

    records = tf.data.TFRecordDataset(str(exported / WARMUP_FILE))
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in records
    ]
    requests = [log.predict_log.request for log in logs]
    assert [request.model_spec.signature_name for request in requests] == [
        "serving_default",
        "similarity",
    ]


def test_versions_count_up_and_nothing_else_appears(model, tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    assert export(model, str(tmp_path)).name == "8"
    assert sorted(os.listdir(tmp_path)) == ["7", "8", "notes"]


def test_an_export_that_answers_otherwise_is_not_published(
    model, tmp_path, monkeypatch
):
    monkeypatch.setattr(export_module, "TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="embedding differs .* not published"):
        export(model, str(tmp_path / "base"))
    assert os.listdir(tmp_path / "base") == []


def test_max_length_can_be_chosen_at_export(small_preset, tmp_path):
    command = [sys.executable, "-m", "simcse_tf.export", "--model", str(small_preset)]
    out = str(tmp_path / "base")
    options = ["--output", out, "--max-length", "5"]
    subprocess.run([*command, *options], check=True, cwd=ROOT)
    serve = tf.saved_model.load(f"{out}/1").signatures["serving_default"]
    long, short = serve(text=tf.constant(["a b c d e f", "a b c"]))["embedding"]
    np.testing.assert_allclose(long, short, atol=1e-6)

    options = ["--output", out, "--max-length", "65"]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "max_length must be between 2 and 64" in done.stderr
    assert os.listdir(out) == ["1"]


def test_minilm_over_grpc_equals_predict_on_real_and_odd_texts(
    minilm, data_dir, tmp_path
):
    """The whole way: export, server process, gRPC, 2,000 real sentences."""
    lines = (data_dir / "wiki_sentences.txt").read_text("utf-8").splitlines()[:2000]
    texts = [*lines, *ODD]
    base = tmp_path / "base"
    export(minilm, str(base))
    # The server needs the export alone.
    moved = tmp_path / "moved"
    shutil.move(base, moved)
    with running_server(moved) as server, Client(server.target) as client:
        received = client.encode(texts)
        cosine = client.similarity(ODD, ODD[::-1])
    expected = minilm.predict(texts, batch_size=64, verbose=0)
    np.testing.assert_allclose(received, expected, atol=1e-5)
    odd = expected[-len(ODD) :]
    np.testing.assert_allclose(cosine, (odd * odd[::-1]).sum(1), atol=1e-5)
