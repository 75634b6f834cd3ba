"""What simcse_tf wrote before its modules moved still loads, with the same numbers.

The archive holds a preset, a run stopped after step 3 of 8 and an export of version
0.1.0, and what that version made of them.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from support.forked import run_command
from support.runs import metrics

from simcse_tf import SimCSE

CONFIG = "run/config.json"
ARCHIVE = Path(__file__).parents[1] / "support" / "written_before.tar.xz"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    directory = tmp_path_factory.mktemp("before")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(directory, filter="data")
    return directory


@pytest.fixture(scope="module")
def expected(before):
    return json.loads((before / "expected.json").read_text())


def test_a_preset_gives_the_same_embeddings(before, expected):
    model = SimCSE.from_preset(str(before / "preset"))
    assert not model.head_in_inference
    received = model.predict(expected["texts"], verbose=0)
    np.testing.assert_allclose(received, expected["embeddings"], atol=1e-6)


@pytest.mark.slow
def test_a_run_resumes_with_the_losses_of_one_that_nothing_interrupted(
    before, expected
):
    done = run_command("simcse_tf.train", "--resume", "--config", CONFIG, cwd=before)
    assert done.returncode == 0, done.stderr
    losses = [line["loss"] for line in metrics(before / "run")]
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-4)
    best = SimCSE.from_preset(str(before / "run" / "best"))
    received = best.predict(expected["texts"], verbose=0)
    np.testing.assert_allclose(received, expected["embeddings"], atol=1e-4)


def test_an_export_answers_as_it_did_and_is_sound(before, expected, capsys):
    import tensorflow as tf

    from simcse_tf import export

    export.main(["--check", str(before / "export")])
    assert "sound" in capsys.readouterr().out
    served = tf.saved_model.load(str(before / "export" / "1"))
    texts = tf.constant(expected["texts"])
    received = served.signatures["serving_default"](text=texts)["embedding"]
    np.testing.assert_allclose(received, expected["embeddings"], atol=1e-6)
