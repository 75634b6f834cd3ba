import os

import numpy as np
import pytest
from conftest import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.encode import encode
from simcse_tf.encode import main as encode_main


@pytest.fixture(scope="module")
def model(small_preset):
    return SimCSE.from_preset(str(small_preset))


@pytest.fixture
def command(monkeypatch, small_preset, tmp_path):
    def command(*arguments):
        defaults = ["--model", str(small_preset), "--output", str(tmp_path / "o.npy")]
        monkeypatch.setattr("sys.argv", ["encode", *defaults, *map(str, arguments)])
        encode_main()
        return np.load(tmp_path / "o.npy")

    return command


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


def test_a_failure_leaves_the_old_output_and_nothing_else(
    command, model, tmp_path, monkeypatch
):
    (tmp_path / "in.txt").write_text("one\ntwo")
    before = command("--input", tmp_path / "in.txt")

    def fail(*_):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(SimCSE, "pad", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        command("--input", tmp_path / "in.txt")
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), before)
    assert sorted(os.listdir(tmp_path)) == ["in.txt", "o.npy"]
