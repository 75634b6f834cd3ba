"""`encode` to Parquet and JSONL, and to smaller numbers, in all formats."""

import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.models import SENTENCES

from simcse_tf.core import steady_lines
from simcse_tf.core.errors import UserError
from simcse_tf.encode import main
from simcse_tf.encoding import embedding_writers, file, partial_array
from simcse_tf.encoding.embedding_files import (
    EmbeddingsAbout,
    embedding_schema,
    embeddings_about,
    stored_rows,
)
from simcse_tf.encoding.embedding_writers import WRITERS
from simcse_tf.encoding.fingerprint import model_fingerprint
from simcse_tf.encoding.records import Record
from simcse_tf.model.simcse import SimCSE
from simcse_tf.quantization import encode_binary, encode_int8, truncate

ROWS = [
    {"id": f"r{i}", "text": text, "stars": i, "w": i / 4, "lang": "ü", "ok": i > 2}
    for i, text in enumerate([*SENTENCES, "", "\ud83d half", "one\u2028two\n"])
]


@pytest.fixture(scope="module")
def model(tiny_preset):
    return SimCSE.from_preset(str(tiny_preset))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with an input, and texts in blocks of three."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(steady_lines, "_BLOCK", 3)
    monkeypatch.setattr(partial_array, "_AT_ONCE", 4)
    with open("in.jsonl", "w") as out:
        out.writelines(json.dumps(row) + "\n" for row in ROWS)
    return tmp_path


@pytest.fixture
def encode(place, model, monkeypatch):
    """The command, with a model that is loaded once."""
    monkeypatch.setattr(SimCSE, "from_preset", lambda *args, **kwargs: model)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")

    def encode(output, *arguments, model="tiny", input="in.jsonl"):
        main(["--model", model, "--input", input, "--output", output, *arguments])
        return read(output)

    return encode


@pytest.fixture
def rows(encode):
    """The embeddings as they always were: a NumPy file."""
    return encode("rows.npy")


def read(output):
    if output.endswith(".npy"):
        return np.load(output)
    if output.endswith(".parquet"):
        return pq.read_table(output)
    with open(output, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def embeddings(output):
    """The numbers of any format, as they stand there."""
    if isinstance(output, np.ndarray):
        return output
    if isinstance(output, list):
        return np.array([row["embedding"] for row in output])
    return stored_rows(output["embedding"])


def test_all_formats_hold_the_rows_of_the_numpy_file_bit_for_bit(encode, rows):
    table = encode("o.parquet")
    assert table.column_names == ["id", "embedding"]
    assert stored_rows(table["embedding"]).tobytes() == rows.tobytes()
    lines = encode("o.jsonl")
    assert [set(row) for row in lines] == [{"id", "embedding"}] * len(ROWS)
    assert embeddings(lines).astype(np.float32).tobytes() == rows.tobytes()
    for ids in (table["id"].to_pylist(), [row["id"] for row in lines]):
        assert ids == [row["id"] for row in ROWS]
    assert not [name for name in os.listdir() if "partial" in name]


@pytest.mark.parametrize("suffix", ["npy", "parquet", "jsonl"])
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--truncate-dim", "5"], lambda rows: truncate(rows, 5)),
        (["--quantize", "int8"], encode_int8),
        (
            ["--quantize", "binary", "--truncate-dim", "11"],
            lambda rows: encode_binary(truncate(rows, 11)),
        ),
    ],
    ids=["truncated", "int8", "binary-truncated"],
)
def test_smaller_embeddings_are_those_of_quantization(
    encode, rows, suffix, flags, expected
):
    found = embeddings(encode(f"o.{suffix}", *flags))
    if suffix != "jsonl":
        assert found.dtype == expected(rows).dtype
    np.testing.assert_array_equal(found.astype(np.float32), expected(rows))


def test_parquet_says_what_made_it_and_keeps_the_types_of_metadata(encode, model):
    table = encode("o.parquet", "--with-text", "--metadata", "--quantize", "binary")
    about = embeddings_about(table.schema, "o.parquet")
    assert about == EmbeddingsAbout(
        "tiny",
        model_fingerprint(model),
        16,
        "binary",
        pooling=model.pooling,
        max_length=model.max_length,
    )
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "id": "string",
        "text": "string",
        "embedding": "fixed_size_list<element: uint8 not null>[2]",
        "stars": "int64",
        "w": "double",
        "lang": "string",
        "ok": "bool",
    }
    for row, expected in zip(table.drop(["embedding"]).to_pylist(), ROWS, strict=True):
        text = expected["text"].encode("utf-8", "surrogatepass")
        assert row == {**expected, "text": text.decode("utf-8", "replace")}


def test_jsonl_has_metadata_as_vertex_ai_restricts(encode):
    lines = encode("o.json", "--metadata", "lang", "stars", "w", "ok", "--with-text")
    assert lines[3] == {
        "id": "r3",
        "text": SENTENCES[3],
        "embedding": lines[3]["embedding"],
        "restricts": [
            {"namespace": "lang", "allow": ["ü"]},
            {"namespace": "ok", "allow": ["true"]},
        ],
        "numeric_restricts": [
            {"namespace": "stars", "value_int": 3},
            {"namespace": "w", "value_double": 0.75},
        ],
    }


def test_every_float32_is_read_again_from_jsonl(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, 60_000, dtype=np.uint32)
    odd = np.float32([0.0, -0.0, 1e-45, -1.17549435e-38, 3.4028235e38, 1, 1e-5, 0.1])
    rows = np.concatenate([odd, bits.view(np.float32)])
    rows = rows[np.isfinite(rows)][:56_000].reshape(-1, 8)
    schema = embedding_schema(EmbeddingsAbout("m", None, 8))
    records = [Record(str(number), b"", {}) for number in range(len(rows))]
    WRITERS["jsonl"](tmp_path / "o.jsonl", [(rows, records)], schema, len(rows))
    found = embeddings(read(str(tmp_path / "o.jsonl"))).astype(np.float32)
    assert found.tobytes() == rows.tobytes()


def test_numbers_of_a_csv_file_are_numbers(encode, place):
    (place / "in.csv").write_text("text,stars,zip,note\na,5,01067,\nb,,4.5,\n")
    table = encode("o.parquet", "--metadata", input="in.csv")
    assert table.drop(["id", "embedding"]).to_pydict() == {
        "stars": [5, None],
        "zip": ["01067", "4.5"],
        "note": [None, None],
    }
    [first, second] = encode("o.jsonl", "--metadata", input="in.csv")
    assert first["restricts"] == [{"namespace": "zip", "allow": ["01067"]}]
    assert first["numeric_restricts"] == [{"namespace": "stars", "value_int": 5}]
    assert "numeric_restricts" not in second


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_lines_of_text_have_their_number_as_id(encode, place, suffix):
    (place / "in.txt").write_bytes(b"one\n\xff two\n\nthree")
    output = encode(f"o.{suffix}", "--with-text", input="in.txt")
    found = output if isinstance(output, list) else output.to_pylist()
    assert [row["id"] for row in found] == ["0", "1", "2", "3"]
    assert [row["text"] for row in found] == ["one", "\ufffd two", "", "three"]


@pytest.mark.parametrize("suffix", ["npy", "parquet", "jsonl"])
def test_no_texts_give_a_file_without_rows(encode, place, suffix):
    (place / "in.txt").write_bytes(b"")
    flags = ["--quantize", "int8"]
    assert len(encode(f"o.{suffix}", *flags, input="in.txt")) == 0
    if suffix == "npy":
        assert read("o.npy").shape == (0, 16)


@pytest.mark.parametrize(
    ("rows", "flags", "output", "error"),
    [
        ([{"id": 1, "text": "a"}, {"id": "1", "text": "b"}], [], "o.jsonl",
         'in.jsonl: .* received "1" in row 1 and in row 2'),
        ([{"text": "a", "n": 1}, {"text": "b", "n": "x"}], ["--metadata"], "o.jsonl",
         'in.jsonl, row 2: expected int in n, as in the rows before, received "x"'),
        ([{"text": "a", "n": 2**60}, {"text": "b", "n": 0.5}], ["--metadata"],
         "o.parquet", "in.jsonl, row 2: expected int in n, .* received 0.5"),
        ([{"body": "a", "text": 1}], ["--column", "body", "--metadata"], "o.parquet",
         "--metadata: the column 'text' cannot come along"),
        ([{"body": "a"}], ["--id-column", "sku"], "o.jsonl",
         "expected a column 'sku', received body"),
        ([{"text": "a", "x": [1]}], ["--metadata"], "o.jsonl", "expected a text, a nu"),
        ([{"a": "a", "b": "b"}], [], "o.jsonl", "--column says which one is read"),
        ([{"id": 1, "_id": 2, "text": "a"}], [], "o.jsonl", "--id-column says which"),
        ([{"text": "a"}], ["--with-text"], "o.npy", "--with-text: o.npy would be a Nu"),
        ([{"text": "a"}], ["--metadata"], "o.npy", "--metadata: o.npy would be a NumP"),
        ([{"text": "a"}], ["--id-column", "text"], "o.npy", "--id-column: o.npy would"),
        ([{"text": "a"}], ["--truncate-dim", "0"], "o.npy", "--truncate-dim: expected"),
        ([{"text": "a"}], [], "o.csv", "--output: expected a name that ends in .npy, "),
    ],
    ids=[
        "same-ids", "mixed-types", "inexact", "column-of-ours", "no-id-column",
        "a-list", "which-text", "which-id", "npy-text", "npy-metadata", "npy-ids",
        "no-dimension", "suffix",
    ],
)  # fmt: skip
def test_a_mistake_is_found_before_the_model_is_loaded(
    place, monkeypatch, rows, flags, output, error
):
    monkeypatch.setattr(
        SimCSE, "from_preset", lambda *args, **kwargs: pytest.fail("loaded")
    )
    (place / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=error):
        main(["--model", "m", "--input", "in.jsonl", "--output", output, *flags])
    assert sorted(os.listdir()) == ["in.jsonl"]


def test_ids_whose_hashes_are_the_same_are_no_duplicates(place):
    class Id(str):
        def __hash__(self):
            return 7

    class Records:
        ids_given, untyped = True, False

        def __init__(self, ids):
            self._ids = ids

        def __iter__(self):
            return (Record(Id(each), b"", {}) for each in self._ids)

    assert len(file.SteadyRecords("x", Records("abcd"))) == 4
    with pytest.raises(UserError, match='"b" in row 2 and in row 5'):
        file.SteadyRecords("x", Records("abcdb"))


def test_more_dimensions_than_the_model_has_are_refused(encode):
    with pytest.raises(UserError, match="--truncate-dim: expected 1 to 16, .* 17"):
        encode("o.npy", "--truncate-dim", "17")


@pytest.mark.parametrize("suffix", ["npy", "parquet", "jsonl"])
def test_a_failure_while_the_output_is_written_costs_no_embedding(
    encode, rows, place, monkeypatch, capsys, suffix
):
    flags = ["--quantize", "int8"]
    encode(f"o.{suffix}", *flags)
    before = (place / f"o.{suffix}").read_bytes()
    there = set(os.listdir())

    def full(path, blocks, *arguments):
        path.write_bytes(b"half")
        next(iter(blocks))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setitem(embedding_writers.WRITERS, suffix, full)
        with pytest.raises(UserError, match="cannot write .*No space left on device"):
            encode(f"o.{suffix}", *flags)
    assert (place / f"o.{suffix}").read_bytes() == before
    working = {f"o.{suffix}.partial", f"o.{suffix}.partial.json"}
    assert set(os.listdir()) - there == working
    with monkeypatch.context() as patch:
        patch.setattr(file, "encode_blocks", lambda *args, **kwargs: iter(()))
        found = embeddings(encode(f"o.{suffix}", *flags))
    assert f"resuming after {len(ROWS)} of {len(ROWS)} texts" in capsys.readouterr().err
    np.testing.assert_array_equal(found, encode_int8(rows))
    assert set(os.listdir()) == there


@pytest.mark.parametrize("change", ["text", "id", "metadata", "grown"])
def test_an_input_that_changes_before_the_output_is_written_leaves_nothing(
    encode, place, monkeypatch, change
):
    def rewrite(*args, embed=file._embed):
        embed(*args)
        rows = [dict(row) for row in ROWS]
        if change == "grown":
            rows.append(rows[0])
        else:
            rows[5][{"metadata": "lang"}.get(change, change)] = "other"
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (place / "in.jsonl").write_text(text)

    monkeypatch.setattr(file, "_embed", rewrite)
    with pytest.raises(UserError, match=r"in\.jsonl changed while it was read"):
        encode("o.parquet", "--metadata", "lang")
    assert os.listdir() == ["in.jsonl"]


def test_rows_that_a_disk_returns_damaged_are_not_written(encode, monkeypatch):
    def damage(model, texts, array, batch_size, embed=file._embed):
        embed(model, texts, array, batch_size)
        os.pwrite(array._file.fileno(), np.float32(np.nan).tobytes(), 128 + 16 * 4 * 2)

    monkeypatch.setattr(file, "_embed", damage)
    with pytest.raises(UserError, match="embeddings, row 3: expected finite numbers"):
        encode("o.jsonl")
    assert not os.path.exists("o.jsonl")
