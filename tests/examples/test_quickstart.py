import json
import os
import re
import subprocess
import sys

import pytest
from support.models import ROOT


def quickstart(directory):
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / "quickstart.py")],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_quickstart_goes_from_data_to_grpc_answers(tmp_path):
    """Every command of it, with two training steps in place of an epoch."""
    config = json.loads((ROOT / "configs" / "quickstart.json").read_text())
    config["training"]["max_steps"] = 2
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.json").write_text(json.dumps(config))
    done = quickstart(tmp_path)
    assert done.returncode == 0, done.stderr
    commands = re.findall(r"^\$ python -m simcse_tf\.(\S+)", done.stdout, re.M)
    assert commands == [
        "datasets.grammar", "evaluate", "train", "export", "serve", "client",
    ]  # fmt: skip
    cosines = re.findall(r"^(-?\d\.\d+)\tMore than ten", done.stdout, re.M)
    assert len(cosines) == 3
    assert all(-1 <= float(cosine) <= 1 for cosine in cosines)
    assert "the server has stopped" in done.stdout
    run = tmp_path / "runs" / "quickstart"
    assert sorted(os.listdir(run)) == ["data", "export", "run"]


def test_elsewhere_than_in_the_project_it_reports_that(tmp_path):
    done = quickstart(tmp_path)
    assert done.returncode == 2
    assert "run this from the project's root" in done.stderr
    assert os.listdir(tmp_path) == []
