import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from support.forked import start_script
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core import steady_lines, text_lines
from simcse_tf.core.errors import UserError
from simcse_tf.encode import encode
from simcse_tf.encode import main as encode_main
from simcse_tf.encoding.partial_array import PartialArray, partial_array
from simcse_tf.model import bulk
from simcse_tf.model.tokens import Tokens


@pytest.fixture(scope="module")
def model(tiny_preset):
    return SimCSE.from_preset(str(tiny_preset))


@pytest.fixture
def command(monkeypatch, tiny_preset, tmp_path):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")

    def command(*arguments):
        defaults = ["--model", str(tiny_preset), "--output", str(tmp_path / "o.npy")]
        encode_main([*defaults, *map(str, arguments)])
        return np.load(tmp_path / "o.npy")

    return command


@pytest.mark.slow
def test_rows_keep_the_order_of_the_sentences_and_equal_predict(model):
    sentences = [text * (1 + 7 * i % 5) for i, text in enumerate(SENTENCES)]
    expected = model.predict(sentences, verbose=0)
    for batch_size in (1, 3, 64):
        np.testing.assert_allclose(
            encode(model, sentences, batch_size), expected, atol=1e-6
        )


def test_without_normalization_only_the_lengths_differ(model):
    raw = encode(model, SENTENCES, normalize=False)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert abs(lengths - 1).max() > 0.1
    np.testing.assert_allclose(raw / lengths, encode(model, SENTENCES), atol=1e-6)


def test_max_length_replaces_the_models_own(model):
    cut = encode(model, ["word " * 50], max_length=4)
    np.testing.assert_allclose(cut, model.predict(["word word"], verbose=0), atol=1e-6)


def test_no_sentences_give_no_rows(model):
    assert encode(model, []).shape == (0, 16)


def test_a_file_gives_a_row_a_line_with_blank_and_broken_ones(command, model, tmp_path):
    (tmp_path / "in.txt").write_bytes(b"one\r\n\n\xff two\nthree")
    rows = command("--input", tmp_path / "in.txt", "--batch-size", 2)
    expected = model.predict(["one", "", b"\xff two", "three"], verbose=0)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_bfloat16_stays_near_float32(command, model, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(SENTENCES))
    rows = command("--input", tmp_path / "in.txt", "--precision", "mixed_bfloat16")
    cosines = (rows * model.predict(SENTENCES, verbose=0)).sum(axis=1)
    assert rows.dtype == np.float32
    assert cosines.min() > 0.99


@pytest.mark.slow
def test_a_failure_leaves_the_old_output_and_is_resumed(
    command, model, tmp_path, monkeypatch, capsys
):
    lines = [f"sentence {number}" for number in range(9)]
    before = np.ones((2, 16), np.float32)
    np.save(tmp_path / "o.npy", before)
    (tmp_path / "in.txt").write_text("\n".join(lines))
    monkeypatch.setattr("simcse_tf.model.bulk.BLOCK", 2)
    embedded = []
    padded = Tokens.padded

    def fail_at_the_third_block(self, batch):
        embedded.append(len(batch.rows))
        if sum(embedded) > 4:
            raise RuntimeError("in the middle")
        return padded(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Tokens, "padded", fail_at_the_third_block)
        with pytest.raises(RuntimeError, match="in the middle"):
            command("--input", tmp_path / "in.txt")
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), before)
    capsys.readouterr()

    embedded.clear()
    monkeypatch.setattr(
        Tokens,
        "padded",
        lambda *args: embedded.append(len(args[1].rows)) or padded(*args),
    )
    rows = command("--input", tmp_path / "in.txt")
    assert "resuming after 4 of 9 texts" in capsys.readouterr().err
    assert sum(embedded) == 5
    np.testing.assert_allclose(rows, model.predict(lines, verbose=0), atol=1e-6)
    assert sorted(os.listdir(tmp_path)) == ["in.txt", "o.npy"]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["input", "precision"])
def test_what_other_input_or_settings_left_is_not_resumed(
    command, tmp_path, monkeypatch, capsys, change
):
    (tmp_path / "in.txt").write_text("one\ntwo\nthree")
    monkeypatch.setattr("simcse_tf.model.bulk.BLOCK", 1)
    append = PartialArray.append
    calls = []

    def fail_at_the_second(self, rows):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError
        append(self, rows)

    monkeypatch.setattr(PartialArray, "append", fail_at_the_second)
    with pytest.raises(RuntimeError):
        command("--input", tmp_path / "in.txt")
    assert json.loads((tmp_path / "o.npy.partial.json").read_text())["rows"] == 1
    options = ["--precision", "mixed_bfloat16"] if change == "precision" else []
    if change == "input":
        (tmp_path / "in.txt").write_text("six\ntwo\nthree")
    command("--input", tmp_path / "in.txt", *options)
    assert "resuming" not in capsys.readouterr().err
    assert len(calls) == 2 + 3


@pytest.mark.slow
def test_a_process_that_is_killed_is_resumed_by_the_next(
    command, tiny_preset, tmp_path, model, capsys
):
    lines = [f"sentence {number}" for number in range(3000)]
    (tmp_path / "in.txt").write_text("\n".join(lines))
    out, journal = tmp_path / "o.npy", tmp_path / "o.npy.partial.json"
    code = (
        "from simcse_tf.core import cli; from simcse_tf import encode\n"
        "from simcse_tf.model import bulk\n"
        "bulk.BLOCK = 100; cli.run(encode.main)"
    )
    arguments = ["--model", tiny_preset, "--input", tmp_path / "in.txt"]
    process = start_script(code, *arguments, "--output", out, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not journal.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert not out.exists()
    done = json.loads(journal.read_text())["rows"]
    assert 100 <= done < 3000
    rows = command("--input", tmp_path / "in.txt")
    assert f"resuming after {done} of 3000 texts" in capsys.readouterr().err
    np.testing.assert_allclose(rows, encode(model, lines), atol=1e-6)
    assert sorted(os.listdir(tmp_path)) == ["in.txt", "o.npy"]


@pytest.mark.parametrize("rows_recorded", [4, 2])
def test_a_journal_that_outlived_its_file_costs_no_row(tmp_path, rows_recorded):
    rows = np.arange(12, dtype="float32").reshape(4, 3)
    out, journal = tmp_path / "o.npy", tmp_path / "o.npy.partial.json"
    for _ in range(2):
        with partial_array(out, (4, 3), "key") as array:
            assert array.rows_done == 0
            array.append(rows)
        np.testing.assert_array_equal(np.load(out), rows)
        assert not journal.exists()
        # What a kill leaves between the output's last two steps, or a user who removes
        # the partial file alone.
        journal.write_text(json.dumps({"key": "key", "rows": rows_recorded}))


def test_two_processes_do_not_write_one_output(command, tmp_path):
    (tmp_path / "in.txt").write_text("one\ntwo")
    output = tmp_path / "o.npy"
    with partial_array(output, (2, 16), "another") as array:
        with pytest.raises(UserError, match="another process is writing"):
            command("--input", tmp_path / "in.txt")
        array.append(np.ones((2, 16)))
    assert (np.load(output) == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("now", ["shrunk", "grown", "rewritten", "emptied"])
def test_an_input_that_changes_while_it_is_read_leaves_nothing(
    command, tmp_path, monkeypatch, now
):
    monkeypatch.setattr(bulk, "BLOCK", 2)
    monkeypatch.setattr(steady_lines, "_BLOCK", 2)
    given = tmp_path / "in.txt"
    texts = [f"{text}\n" for text in SENTENCES]
    given.write_text("".join(texts))
    np.save(tmp_path / "o.npy", np.zeros(3))
    changed = {
        "shrunk": texts[:5],
        "grown": [*texts, "one more\n"],
        "rewritten": [*texts[:6], "another\n", *texts[7:]],
        "emptied": [],
    }[now]
    append = PartialArray.append

    def append_and_change(array, rows):
        append(array, rows)
        given.write_text("".join(changed))

    monkeypatch.setattr(PartialArray, "append", append_and_change)
    monkeypatch.setattr(text_lines, "read_whole_lines", unbuffered_lines)
    with pytest.raises(UserError, match=r"in\.txt changed while it was read"):
        command("--input", given)
    assert sorted(os.listdir(tmp_path)) == ["in.txt", "o.npy"]
    assert np.load(tmp_path / "o.npy").shape == (3,)


def unbuffered_lines(path):
    """As from a file of which each line has the size of a buffer."""
    with open(path, "rb", buffering=0) as file:
        while line := file.readline():
            yield line


def test_of_two_that_write_one_output_one_is_refused(tmp_path):
    """The second opened the file just before the first one put it in place."""
    rows = np.ones((2, 3), np.float32)
    with partial_array(tmp_path / "o.npy", (2, 3), "key") as array:
        array.append(rows)
        early = os.open(tmp_path / "o.npy.partial", os.O_RDWR)
    opened = os.open

    def open_early(path, *arguments):
        if str(path).endswith(".partial"):
            monkey.undo()
            return os.dup(early)
        return opened(path, *arguments)

    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(os, "open", open_early)
        with partial_array(tmp_path / "o.npy", (2, 3), "other") as array:
            array.append(2 * rows)
            assert (np.load(tmp_path / "o.npy") == 1).all()
    assert (np.load(tmp_path / "o.npy") == 2).all()
    os.close(early)


def test_a_file_of_another_program_is_not_taken_for_rows(command, tmp_path):
    (tmp_path / "in.txt").write_text("one")
    (tmp_path / "o.npy.partial").write_text("half a download")
    with pytest.raises(UserError, match=r"o\.npy\.partial, .*holds something else"):
        command("--input", tmp_path / "in.txt")
    assert (tmp_path / "o.npy.partial").read_text() == "half a download"


def test_an_output_that_would_cost_the_input_or_the_model_is_refused(
    tmp_path, small_preset
):
    given = tmp_path / "o.npy.partial"
    given.write_text("one")
    (tmp_path / "link").symlink_to(given)
    weights = next(Path(small_preset).glob("*.h5"))
    before = weights.read_bytes()
    model = ["--model", str(small_preset), "--input", str(given)]
    for output in (given, tmp_path / "link", tmp_path / "o.npy", weights, "/dev/null"):
        with pytest.raises(UserError, match="--output: cannot write"):
            encode_main([*model, "--output", str(output)])
    assert given.read_text() == "one"
    assert weights.read_bytes() == before
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("kind", ["absent", "directory", "pipe"])
def test_an_input_that_cannot_be_read_twice_is_refused(command, tmp_path, kind):
    path = tmp_path / "in.txt"
    if kind == "directory":
        path.mkdir()
    reader, writer = os.pipe()
    os.close(writer)
    given = f"/dev/fd/{reader}" if kind == "pipe" else path
    with pytest.raises(UserError, match="--input: .*(cannot read|a regular file)"):
        command("--input", given)
    os.close(reader)
