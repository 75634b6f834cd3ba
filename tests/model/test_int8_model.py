"""A model in int8: the same embeddings from every door, near those in float32."""

import numpy as np
import pytest
import tensorflow as tf
from support.exports import unchecked
from support.families import make_family_preset
from support.models import MINILM, SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.encode import main as encode_main
from simcse_tf.encoders.keras_layers import KerasLayersEncoder
from simcse_tf.encoding.fingerprint import model_fingerprint
from simcse_tf.encoding.model_encoder import load_encoder
from simcse_tf.exporting.check import check, summary
from simcse_tf.exporting.saved_model import export
from simcse_tf.model import int8
from simcse_tf.model.bulk import encode
from simcse_tf.objectives.contrastive import Contrastive

# In float32 sums are in another order for another shape, and one may be rounded to the
# other side.
NEAR = 2e-3


@pytest.fixture(scope="module")
def exact(tiny_preset):
    return SimCSE.from_preset(str(tiny_preset), pooling="avg")


@pytest.fixture(scope="module")
def model(tiny_preset):
    return SimCSE.from_preset(str(tiny_preset), pooling="avg", dtype="int8")


@pytest.fixture(scope="module")
def expected(model):
    return model.predict(SENTENCES, verbose=0)


def test_embeddings_are_near_those_in_float32(model, exact, expected):
    cosines = (exact.predict(SENTENCES, verbose=0) * expected).sum(axis=1)
    assert 0.99 < cosines.min() < 0.9999999
    assert 0.99 < model.agreement.least <= model.agreement.mean < 1
    assert (model.precision, exact.precision) == ("int8", "float32")


def test_every_door_gives_the_same_embeddings(
    model, tiny_preset, expected, tmp_path, monkeypatch
):
    np.testing.assert_allclose(encode(model, SENTENCES), expected, atol=NEAR)
    np.testing.assert_allclose(model(tf.constant(SENTENCES)), expected, atol=NEAR)
    evaluated = load_encoder(str(tiny_preset), pooling="avg", precision="int8")
    np.testing.assert_allclose(evaluated(SENTENCES), expected, atol=NEAR)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    source, out = tmp_path / "in.txt", tmp_path / "out.npy"
    source.write_text("\n".join(SENTENCES))
    read = ["--model", str(tiny_preset), "--pooling", "avg", "--precision", "int8"]
    encode_main([*read, "--input", str(source), "--output", str(out)])
    np.testing.assert_allclose(np.load(out), expected, atol=NEAR)


def test_an_embedding_does_not_depend_on_its_neighbours(model, expected):
    for row, text in zip(expected, SENTENCES, strict=True):
        alone = model.predict([text], verbose=0)[0]
        np.testing.assert_allclose(alone, row, atol=NEAR)


@pytest.mark.slow
def test_an_export_answers_as_the_model_also_in_a_tensorflow_1_session(
    model, expected, tmp_path
):
    with unchecked():
        version = export(model, str(tmp_path))
    soundness = check(version)
    about = soundness.manifest.model
    assert about.precision == "int8"
    assert about.agreement.model_dump() == model.agreement._asdict()
    assert "agreement   cosines with float32's " in summary(version, soundness)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(version))
        signature = loaded.signature_def["serving_default"]
        received = session.run(
            signature.outputs["embedding"].name,
            {signature.inputs["text"].name: SENTENCES},
        )
    np.testing.assert_allclose(received, expected, atol=NEAR)


def test_its_fingerprint_is_another(model, exact):
    assert model_fingerprint(model) != model_fingerprint(exact)


@pytest.mark.slow
def test_a_model_of_another_family_that_reads_the_first_token_has_it_too(tmp_path):
    make_family_preset("roberta", tmp_path / "preset")
    settings = {"pooling": "cls_before_pooler", "max_length": 32}
    exact = SimCSE.from_preset(str(tmp_path / "preset"), **settings)
    model = SimCSE.from_preset(str(tmp_path / "preset"), dtype="int8", **settings)
    near, far = (each.predict(SENTENCES, verbose=0) for each in (model, exact))
    assert 0.98 < (near * far).sum(axis=1).min() < 0.9999999


def test_it_is_not_trained(model):
    model.compile("sgd", objective=Contrastive())
    with pytest.raises(UserError, match="in int8 cannot be trained"):
        model.fit(SENTENCES, batch_size=8, verbose=0)


def test_a_gpu_is_refused_in_one_line(tiny_preset, monkeypatch):
    monkeypatch.setattr(int8, "on_accelerator", lambda: True)
    with pytest.raises(UserError, match="int8 is for CPUs"):
        SimCSE.from_preset(str(tiny_preset), dtype="int8")


def test_a_model_that_int8_would_change_is_refused(tiny_preset, monkeypatch):
    monkeypatch.setattr(int8, "_LEAST_MEAN", 0.99999999)
    with pytest.raises(UserError, match="at least 0.99999999 .* take bfloat16"):
        SimCSE.from_preset(str(tiny_preset), dtype="int8")


def test_a_backbone_of_no_family_is_refused(tiny_preset):
    exact = SimCSE.from_preset(str(tiny_preset))
    exact.embedder.encoder = KerasLayersEncoder(exact.backbone, layers=(-1,))
    with pytest.raises(UserError, match="expected a model of the family of BERT"):
        int8.use_int8(exact)


@pytest.mark.attack
def test_real_weights_stay_near_float32():
    near = SimCSE.from_preset(MINILM, dtype="int8")
    assert near.agreement.mean > 0.99
