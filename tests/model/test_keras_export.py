import numpy as np
import pytest
import tensorflow as tf
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError

TEXTS = [*SENTENCES, "", "word " * 100, "Ünïcödé 漢字 🙂"]


@pytest.fixture(scope="module")
def model(tiny_preset):
    return SimCSE.from_preset(str(tiny_preset), max_length=32, prompt="query: ")


@pytest.mark.slow
def test_what_keras_exports_takes_text_and_answers_as_predict_does(model, tmp_path):
    expected = model.predict(TEXTS, verbose=0)
    model.export(tmp_path / "exported", verbose=False)
    function = tf.saved_model.load(str(tmp_path / "exported")).signatures[
        "serving_default"
    ]
    answer = function(text=tf.constant(TEXTS))
    assert answer.keys() == {"embedding"}
    np.testing.assert_allclose(answer["embedding"], expected, atol=1e-5)


def test_a_format_without_tensorflows_operations_is_refused(model, tmp_path):
    with pytest.raises(UserError, match="expected tf_saved_model, received onnx"):
        model.export(tmp_path / "exported", format="onnx")


def test_a_plain_saved_model_is_refused_with_what_to_call(model, tmp_path):
    model.predict(TEXTS, verbose=0)
    with pytest.raises(UserError, match=r"call model.export\(directory\)"):
        tf.saved_model.save(model, str(tmp_path / "saved"))
    # A checkpoint is something else.
    tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
