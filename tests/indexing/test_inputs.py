import functools
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.indexes import vectors_of
from support.models import SENTENCES, make_preset

from simcse_tf import SimCSE
from simcse_tf.core.errors import NotFinite, UserError
from simcse_tf.core.vectors import l2_normalize
from simcse_tf.encoding.embedding_files import (
    EmbeddingsAbout,
    embedding_column,
    embedding_schema,
)
from simcse_tf.encoding.model_encoder import ModelEncoder
from simcse_tf.index import main
from simcse_tf.indexing.index import Index
from simcse_tf.indexing.querying import check_same_embeddings, search_texts
from simcse_tf.model.bulk import encode
from simcse_tf.quantization import encode_int8

ROWS = [
    {"id": f"r{n}", "text": text, "words": len(text.split())}
    for n, text in enumerate(SENTENCES)
]


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return make_preset(tmp_path_factory.mktemp("model") / "preset", 1, 2000)


@pytest.fixture(scope="module")
def load():
    """Loads a model once: what it has traced serves all tests."""
    return functools.cache(SimCSE.from_preset)


@pytest.fixture
def place(tmp_path, monkeypatch, preset, load):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(preset)

    def from_preset(name, **keywords):
        return load(os.path.realpath(name), **keywords)

    monkeypatch.setattr(SimCSE, "from_preset", from_preset)
    # The machine lives on: nothing has to wait for its disk.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    (tmp_path / "rows.txt").write_text("".join(f"{text}\n" for text in SENTENCES))
    return tmp_path


def index_command(command, *arguments):
    main([command, "--index", "i", *arguments])


MODEL = ("--model", "model", "--pooling", "avg")


def own_model():
    return SimCSE.from_preset("model", pooling="avg", max_length=None)


def refused(*arguments):
    with pytest.raises(UserError) as error:
        index_command(*arguments)
    return str(error.value)


def prompted(preset, place, **prompts):
    """The model with prompts of its own."""
    shutil.copytree(preset, place / "prompted")
    model = SimCSE.from_preset(str(place / "prompted"), pooling="avg")
    model.prompts = prompts
    model.save_to_preset(str(place / "with prompts"))
    return "with prompts"


@pytest.mark.slow
def test_texts_are_embedded_and_found_again(place, capsys):
    index_command("build", *MODEL, "--input", "rows.jsonl")
    assert capsys.readouterr().out == "i: 8 rows, 16 dimensions, float32, flat\n"
    index = Index.open("i")
    expected = encode(own_model(), SENTENCES)
    np.testing.assert_allclose(index.vectors(np.arange(8)), expected, atol=1e-6)
    assert index.metadata([1]) == [{"words": 8}]
    index_command("search", "--json", "--k", "2", SENTENCES[3])
    found = json.loads(capsys.readouterr().out)
    assert found["query"] == SENTENCES[3]
    assert [{**hit, "cosine": 1.0} for hit in found["hits"][:1]] == [
        {"id": "r3", "text": SENTENCES[3], "cosine": 1.0, "metadata": {"words": 7}}
    ]
    assert len(found["hits"]) == 2
    assert list(found["hits"][0]) == ["id", "text", "cosine", "metadata"]
    (place / "new.csv").write_text("id,text,words\nn0,Birds sing.,2\nr0,Cats.,1\n")
    assert 'ids are in the index already, such as "r0"' in refused(
        "add", "--input", "new.csv"
    )
    index_command("add", "--input", "new.csv", "--replace")
    assert capsys.readouterr().out == (
        "i: 2 rows added, 1 of them in place of old ones: 9 rows, 16 dimensions, "
        "float32, flat\n"
    )
    (place / "old.txt").write_text("r1\nr2\n")
    index_command("remove", "--ids", "old.txt")
    (place / "queries.txt").write_text("Birds sing.\n\nCats.\n")
    index_command("search", "--queries", "queries.txt", "--k", "1")
    assert capsys.readouterr().out.endswith(
        'Birds sing.\n  1.0000  n0  Birds sing.  {"words": 2}\n'
        'Cats.\n  1.0000  r0  Cats.  {"words": 1}\n'
    )
    index_command("info", "--json")
    about = json.loads(capsys.readouterr().out)
    assert (about["rows"], about["removed"]["rows"]) == (7, 3)
    index_command("info", "--check")
    out = capsys.readouterr().out
    assert "rows: 7 (3 removed)\n" in out
    assert "model: model\n" in out


@pytest.mark.slow
def test_another_model_is_refused_and_both_are_named(place):
    index_command("build", *MODEL, "--input", "rows.txt", "--max-length", "9")
    make_preset(place / "other", 2, 2000)
    for arguments in (
        ("search", "--model", "other", "x"),
        ("add", "--model", "other", "--input", "rows.txt"),
    ):
        line = refused(*arguments)
        assert "i was built with model (fingerprint " in line
        assert "other (fingerprint " in line
    index = Index.open("i")
    other = ModelEncoder(SimCSE.from_preset("other"))
    with pytest.raises(UserError, match="i was built with model .*, received another"):
        search_texts(index, other, ["x"], 1)
    # The same weights, cut elsewhere.
    with pytest.raises(UserError, match="expected the same model, pooling and max_len"):
        search_texts(index, ModelEncoder(own_model()), ["x"], 1)
    shutil.move("model", "moved")
    assert "moved" not in refused("search", "x")
    index_command("search", "--model", "moved", "x")


@pytest.mark.slow
def test_documents_and_queries_have_prompts_of_their_own(place, preset, capsys):
    model = prompted(preset, place, query="find the ", document="read a ", other="x ")
    index_command("build", "--model", model, "--input", "rows.txt")
    loaded = SimCSE.from_preset(model, pooling=None, max_length=64)
    # The same weights without prompts.
    documents = encode(own_model(), [f"read a {text}" for text in SENTENCES])
    (query,) = encode(own_model(), ["find the train"])
    index = Index.open("i")
    assert index.manifest.prompt == "read a "
    np.testing.assert_allclose(index.vectors(np.arange(8)), documents, atol=1e-6)
    [hits] = search_texts(index, ModelEncoder(loaded), ["train"], 8)
    best = np.sort(documents @ query)[::-1]
    np.testing.assert_allclose([hit.cosine for hit in hits], best, atol=2e-6)
    index_command("build", "--model", model, "--input", "rows.txt", "--prompt", "other",
                  "--replace", "--truncate-dim", "8")  # fmt: skip
    index_command("add", "--input", "rows.txt")
    index = Index.open("i")
    assert (index.rows, index.dimension, index.manifest.prompt) == (16, 8, "x ")
    np.testing.assert_allclose(*np.split(index.vectors(np.arange(16)), 2), atol=1e-6)
    assert index.ids([15]) == ["15"]
    assert (
        "--prompt: with prompts has the prompts query, document, other, received y"
        in (refused("search", "--prompt", "y", "x"))
    )


@pytest.mark.slow
def test_a_numpy_file_is_taken_if_the_model_made_it(place):
    embedded = encode(own_model(), SENTENCES)
    np.save("rows.npy", embedded)
    arguments = (*MODEL, "--input", "rows.txt", "--embeddings", "rows.npy")
    index_command("build", *arguments, "--dtype", "int8")
    index = Index.open("i")
    assert index.texts([7]) == [SENTENCES[7]]
    np.testing.assert_allclose(index.vectors([7]), embedded[7:], atol=5e-3)
    np.save("rows.npy", embedded[::-1])
    line = refused("build", *arguments, "--replace")
    assert line.startswith("rows.npy: model embeds the text of row ")
    np.save("rows.npy", embedded[:7])
    assert "rows.npy has 7 rows, and rows.txt 8: expected" in refused(
        "build", *arguments, "--replace"
    )
    np.save("rows.npy", embedded[:, :9])
    assert "expected floats of shape (n, 16), received float32 of (8, 9)" in refused(
        "build", *arguments, "--replace"
    )


def write_parquet(name, texts, ids=None, with_text=True, vectors=None, **about):
    told = EmbeddingsAbout(
        **{"model": "m", "fingerprint": "f", "dimension": 16, **about}
    )
    fields = [pa.field("words", pa.int64())]
    schema = embedding_schema(told, with_text=with_text, metadata=fields)
    vectors = vectors_of(texts) if vectors is None else vectors
    columns = {
        "id": ids or [f"p{n}" for n in range(len(texts))],
        "text": texts,
        "embedding": embedding_column(told.encoded(vectors)),
        "words": [len(text.split()) for text in texts],
    }
    columns = {name: columns[name] for name in schema.names}
    pq.write_table(pa.table(columns, schema=schema), name)
    return name


def test_parquet_files_of_embeddings_say_what_made_them(place):
    one = write_parquet("1.parquet", SENTENCES, prompt="read ", max_length=9)
    two = write_parquet("2.parquet", ["x"], ["z"], prompt="read ", max_length=9)
    index_command("build", "--embeddings", one, two)
    index = Index.open("i")
    np.testing.assert_array_equal(
        index.vectors(np.arange(9)), vectors_of([*SENTENCES, "x"])
    )
    assert (index.ids([0, 8]), index.metadata([8])) == (["p0", "z"], [{"words": 1}])
    manifest = index.manifest
    assert (manifest.model, manifest.prompt, manifest.max_length) == ("m", "read ", 9)
    three = write_parquet("3.parquet", ["y"], ["y"], fingerprint="g")
    assert "i was built with m (fingerprint f), and 3.parquet" in refused(
        "add", "--embeddings", three
    )
    four = write_parquet("4.parquet", ["y"], ["y"])
    assert 'i has the prompt "read ", and 4.parquet "": expected' in refused(
        "add", "--embeddings", four
    )
    assert "4.parquet: expected the prompt read  as in 1.parquet" in refused(
        "build", "--embeddings", one, four, "--replace"
    )
    assert "--model: expected none beside Parquet" in refused(
        "add", "--embeddings", four, "--model", "m"
    )


def test_int8_and_embeddings_without_texts_are_taken(place):
    path = write_parquet("8.parquet", SENTENCES, with_text=False, values="int8")
    index_command("build", "--embeddings", path, "--dtype", "int8")
    index = Index.open("i")
    assert not index.manifest.has_texts
    file = np.load(index.directory / index.manifest.segments[0].vectors.path)
    # What stood in the file, to the byte.
    np.testing.assert_array_equal(file, encode_int8(vectors_of(SENTENCES)))


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.full((8, 16), np.nan, np.float32), NotFinite, "p.parquet, row 1: expected"),
        (np.eye(8, 16, dtype=np.float32) * 3, None, None),
        (np.zeros((8, 16), np.float32), None, None),
    ],
    ids=["nan", "long", "zero"],
)
def test_odd_embeddings(place, values, error, message):
    path = write_parquet("p.parquet", SENTENCES, vectors=values)
    if error:
        with pytest.raises(error, match=message):
            index_command("build", "--embeddings", path)
        return
    index_command("build", "--embeddings", path)
    found = Index.open("i").vectors(np.arange(8))
    np.testing.assert_allclose(found, l2_normalize(values))


def test_other_files_are_no_embeddings(place):
    pq.write_table(pa.table({"id": ["a"], "text": ["b"]}), "other.parquet")
    for path, message in {
        "other.parquet": "expected embeddings as",
        "rows.txt": "cannot read rows.txt",
        "no.parquet": "cannot read no.parquet: No such file",
        "rows.npy": "expected one .npy file, and --input",
    }.items():
        assert message in refused("build", "--embeddings", path)
    bits = write_parquet("bits.parquet", SENTENCES)
    assert "expected none beside Parquet files" in refused(
        "build", "--embeddings", bits, "--input", "rows.txt"
    )
    assert "--metadata: bits.parquet has no column 'year'" in refused(
        "build", "--embeddings", bits, "--metadata", "year"
    )
    path = write_parquet("twice.parquet", ["a", "b"], ["x", "x"])
    assert 'rows 1 and 2 both have the id "x"' in refused("build", "--embeddings", path)
    assert not (place / "i").exists()


def test_an_endpoint_without_fingerprint_is_compared_by_texts(place):
    path = write_parquet("p.parquet", SENTENCES, fingerprint=None)
    index_command("build", "--embeddings", path)
    index = Index.open("i")
    check_same_embeddings(index, vectors_of)
    [hits] = search_texts(index, vectors_of, [SENTENCES[2]], 1)
    assert (hits[0].id, hits[0].cosine) == ("p2", 1.0)
    with pytest.raises(UserError, match="i was built with m|i: there embeds the text"):
        check_same_embeddings(index, lambda texts: -vectors_of(texts), "there")
    with pytest.raises(
        UserError, match="i has 16 dimensions, built with m: there has 8"
    ):
        check_same_embeddings(index, lambda texts: vectors_of(texts, 8), "there")
    path = write_parquet("q.parquet", SENTENCES, fingerprint=None, with_text=False)
    index_command("build", "--embeddings", path, "--replace")
    with pytest.raises(UserError, match="nobody can tell whether there is the same"):
        check_same_embeddings(Index.open("i"), vectors_of, "there")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("build --input rows.txt", "--model: expected the model of --input's"),
        ("build --model model", "expected --input or --embeddings: the rows"),
        (
            "build --model model --input rows.txt --batch-size 0",
            "--batch-size: expected",
        ),
        (
            "build --model model --input rows.txt --column x",
            "--column: rows.txt has no",
        ),
        ("build --model model --input rows.jsonl --id-column x", "a column 'x'"),
        ("add --input rows.txt", "i: expected an index, a directory: there is no"),
        ("remove --id a", "i: expected an index, a directory: there is no"),
        ("info", "i: expected an index, a directory: there is no"),
        ("search x", "i: expected an index, a directory: there is no"),
        ("search", "expected TEXT... or --queries FILE, one of them"),
    ],
)
def test_mistakes_of_the_command_line(place, arguments, message):
    assert message in refused(*arguments.split())
    assert not (place / "i").exists()
