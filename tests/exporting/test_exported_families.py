"""Models of other families are served as they predict, with all their settings."""

import numpy as np
import pytest
from support.exports import unchecked
from support.families import FAMILY_NAMES, make_family_preset
from support.models import SENTENCES
from support.servers import running_server

from simcse_tf import SimCSE
from simcse_tf.client import Client
from simcse_tf.export import export

pytestmark = pytest.mark.slow

ODD = ["", "a" * 3_000, "word " * 500, "🙂👩‍👩‍👧 naïve", b"\xff\xfe\x00 bad", "</s>"]


# The one that differs most from BERT always; test_matrix.py exports of the others, too.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "xlm_roberta" else pytest.mark.attack)
        for name in FAMILY_NAMES
    ],
)
def test_the_served_model_answers_as_predict_does(name, tmp_path):
    model = SimCSE.from_preset(
        str(make_family_preset(name, tmp_path / "preset")),
        pooling="weightedmean+cls_before_pooler",
        dense=[{"units": 6, "activation": "gelu"}],
        prompt="query: ",
        head_init="random",
        max_length=32,
    )
    texts = SENTENCES + ODD
    expected = model.predict(texts, verbose=0)
    assert expected.shape == (len(texts), 6)
    with unchecked():
        export(model, str(tmp_path / "simcse"))
    with running_server(tmp_path / "simcse") as server, Client(server.target) as client:
        np.testing.assert_allclose(client.encode(texts), expected, atol=2e-6)
