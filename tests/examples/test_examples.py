"""Each example runs, and prints what it promises."""

import re
import runpy
import sys

import pytest
from support.exports import leave_unchecked
from support.models import ROOT

from simcse_tf import SimCSE


@pytest.fixture
def printed(monkeypatch, capsys):
    """Runs an example as a script; returns what it printed on stdout."""

    def run(name, *arguments):
        path = str(ROOT / "examples" / name)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_embed_sentences_prints_cosines_by_meaning(printed):
    rows = [
        [float(value) for value in line.split()[:4]]
        for line in printed("embed_sentences.py").splitlines()
    ]
    assert [row[index] for index, row in enumerate(rows)] == [1, 1, 1, 1]
    for related, unrelated in ((rows[0][1], rows[0][2]), (rows[2][3], rows[1][3])):
        assert related > unrelated + 0.2


@pytest.mark.slow
def test_train_on_pairs_draws_partners_together(printed):
    margins = re.findall(r"(?:before|after): +(\S+)", printed("train_on_pairs.py"))
    before, after = map(float, margins)
    assert after > before + 0.1


# A small model always, the real one where there is time.
@pytest.mark.slow
@pytest.mark.parametrize("size", [16, pytest.param(384, marks=pytest.mark.attack)])
def test_export_and_load_answers_without_the_package(
    printed, tmp_path, tiny_preset, monkeypatch, size
):
    if size == 16:
        leave_unchecked(monkeypatch)
        tiny = SimCSE.from_preset(str(tiny_preset))
        monkeypatch.setattr(SimCSE, "from_preset", lambda preset: tiny)
    text = printed("export_and_load.py", tmp_path)
    assert text.startswith(f"{tmp_path}/1:\n")
    assert f"float32 (2, {size})" in text
    exact, decoded = re.findall(r"(?:cosine|from int8) +(\S+)", text)
    assert abs(float(exact) - float(decoded)) < 0.01


def test_the_readme_lists_every_example():
    readme = (ROOT / "README.md").read_text("utf-8")
    for path in (ROOT / "examples").glob("*.py"):
        assert f"`{path.name}`" in readme
