"""What TensorFlow writes to stderr while it is imported."""

import os
import subprocess
import sys

import pytest
from support.models import ROOT

NOTICE = "import os\nos.write(2, b'notice\\n')\n"
COMMAND = (
    "from simcse_tf.core.cli import run\n"
    "def main():\n"
    "    import os, tensorflow\n"
    "    os.write(2, b'after\\n')\n"
    "run(main)\n"
)


def stderr(directory, tensorflow, level="3"):
    """What a command writes to stderr that imports this as TensorFlow."""
    (directory / "tensorflow.py").write_text(tensorflow)
    path = os.pathsep.join([str(directory), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", COMMAND],
        env=os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": level},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.splitlines()


def test_notices_are_hidden_and_what_comes_later_is_not(tmp_path):
    assert stderr(tmp_path, NOTICE) == ["after"]


def test_notices_are_shown_to_who_asks_for_them(tmp_path):
    assert stderr(tmp_path, NOTICE, level="0") == ["notice", "after"]


@pytest.mark.parametrize("failure", ["raise ImportError('broken')", "import absent"])
def test_an_import_that_fails_shows_what_it_wrote(tmp_path, failure):
    lines = stderr(tmp_path, NOTICE + failure)
    assert lines[0] == "notice"
    assert "Error: " in lines[-1]
