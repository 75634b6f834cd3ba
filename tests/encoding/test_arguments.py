"""The flags that say how a MODEL is to be read."""

import json
import os

import numpy as np
import pytest
from support.models import MINILM

from simcse_tf import encode, evaluate, export, retrieve
from simcse_tf.checkpoints.resolve import resolve
from simcse_tf.core.cli import Parser
from simcse_tf.core.errors import UserError
from simcse_tf.encoding.arguments import add_reading_flags, reading_of


def parsed(*flags):
    parser = Parser("test")
    add_reading_flags(parser)
    return reading_of(parser.parse_args(flags))


def test_the_flags_are_arguments_of_from_preset():
    flags = ("--pooling", "max+avg", "--max-length", "64", "--prompt", "query")
    assert parsed(*flags) == {
        "pooling": "max+avg",
        "max_length": 64,
        "prompt_name": "query",
    }
    assert set(parsed().values()) == {None}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--pooling", "median"), "must be one of cls,"),
        (("--pooling", "cls+avg"), "stands alone"),
        (("--max-length", "1"), "expected 2 tokens or more, received '1'"),
        (("--max-length", "many"), "expected 2 tokens or more"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as exit:
        parsed(*flags)
    assert exit.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (encode, ("--input", "in", "--output", "out")),
        (evaluate, ("--data", "data")),
        (export, ("--output", "out")),
        (retrieve, ("--queries", "queries", "--corpus", "corpus")),
    ],
)
def test_every_command_that_takes_a_model_takes_them(command, flags, capsys):
    with pytest.raises(SystemExit):
        command.main(["--model", "m", *flags, "--pooling", "median"])
    assert "--pooling" in capsys.readouterr().err


@pytest.fixture(scope="module")
def prompted(tmp_path_factory):
    """MiniLM with two prompts."""
    directory = tmp_path_factory.mktemp("prompted")
    config = "config_sentence_transformers.json"
    for file in os.scandir(resolve(MINILM)):
        if file.name != config:
            os.symlink(file.path, directory / file.name)
    prompts = {"query": "query: ", "passage": "passage: "}
    (directory / config).write_text(json.dumps({"prompts": prompts}))
    return directory


@pytest.mark.slow
def test_encode_says_how_it_reads_a_foreign_model(prompted, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("A man plays.\n")
    (tmp_path / "prompted.txt").write_text("query: A man plays.\n")

    def run(name, *flags):
        files = ["--input", f"{tmp_path / name}.txt", "--output", f"{tmp_path}/out.npy"]
        encode.main(["--model", str(prompted), *files, *flags])
        return np.load(tmp_path / "out.npy"), capsys.readouterr().err

    plain, said = run("prompted")
    read = "model.safetensors read as: mean pooling, l2-normalized, "
    assert f"{read}no prompt (it has query, passage), 256 tokens\n" in said
    with_prompt, said = run("in", "--prompt", "query", "--max-length", "64")
    assert f"{read}prompt 'query: ', 64 tokens\n" in said
    np.testing.assert_allclose(with_prompt, plain, atol=1e-6)
    with pytest.raises(UserError, match="no prompt 'title': it has query, passage"):
        run("in", "--prompt", "title")
