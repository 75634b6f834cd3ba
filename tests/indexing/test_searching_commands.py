import io
import json
import os
import sys

import pytest
from support.indexes import Texts, vectors_of
from support.models import SENTENCES, make_preset

from simcse_tf import index, retrieve
from simcse_tf.core.errors import UserError
from simcse_tf.indexing import querying
from simcse_tf.indexing.changes import build
from simcse_tf.model.simcse import SimCSE

ROWS = [
    ("a", "A man plays.", {"year": 2019, "lang": "en"}),
    ("b", "Ein Hund \x1b[2J läuft.", {"year": 2021, "lang": "de"}),
    ("c", "A man plays.", {"year": 2022, "lang": "en"}),
    ("d", "Rain fell.", {"year": None, "lang": "en"}),
]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Calls `index search` on four rows whose model is a hash of the text."""
    monkeypatch.chdir(tmp_path)
    build("i", Texts(ROWS))
    monkeypatch.setattr(index, "load_query_encoder", lambda *_: vectors_of)

    def call(*arguments):
        index.main(["search", "--index", "i", *arguments])
        return capsys.readouterr().out

    return call


def test_hits_come_with_ids_and_metadata(command):
    printed = command("A man plays.", "Rain fell.", "--k", "1")
    assert printed == (
        'A man plays.\n  1.0000  a  A man plays.  {"year": 2019, "lang": "en"}\n'
        'Rain fell.\n  1.0000  d  Rain fell.  {"lang": "en"}\n'
    )
    assert "\x1b" not in command("rain")


def test_conditions_and_a_threshold_leave_hits_out(command):
    found = json.loads(command("A man plays.", "--json", "--where", "year > 2020"))
    assert found["hits"][0]["id"] == "c"
    assert len(found["hits"]) == 2
    assert command("rain", "--threshold", "0.99") == "rain\n"


def test_queries_come_from_a_file_or_stdin(command, monkeypatch, tmp_path):
    text = "Rain fell.\n\n A  man plays.\n"
    (tmp_path / "q.txt").write_text(text)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    printed = command("--queries", "-", "--json", "--k", "1")
    assert printed == command("--queries", "q.txt", "--json", "--k", "1")
    found = [json.loads(line) for line in printed.splitlines()]
    assert [each["query"] for each in found] == ["Rain fell.", "A man plays."]
    assert [each["hits"][0]["id"] for each in found] == ["d", "a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--k", "0"], "k: expected 1 or more, received 0"),
        (["x", "--effort", "0"], "effort: expected 1 or more"),
        (["x", "--threshold", "nan"], "threshold: expected a cosine"),
        (["x", "--where", "yaer = 1"], 'no column "yaer"; the index has: year, lang'),
        (["x", "--queries", "q.txt"], "one of them"),
        (["--queries", "-"], "stdin holds no text"),
    ],
)
def test_a_mistake_is_told_before_a_model_is_loaded(
    command, monkeypatch, arguments, message
):
    monkeypatch.setattr(index, "load_query_encoder", None)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" \n")))
    with pytest.raises(UserError, match=message):
        command(*arguments)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A model, a corpus with a sentence twice, and its index."""
    place = tmp_path_factory.mktemp("corpus")
    preset = make_preset(place / "preset", 1, 2000)
    model = SimCSE.from_preset(str(preset))
    texts = [*SENTENCES, SENTENCES[1]]
    (place / "corpus.txt").write_text("".join(f"{text}\n" for text in texts))
    (place / "queries.txt").write_text(f"{SENTENCES[0]}\nA man sings.\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimCSE, "from_preset", lambda name, **_: model)
        patch.setattr(os, "fsync", lambda descriptor: None)
        arguments = ["--model", str(preset), "--input", str(place / "corpus.txt")]
        index.main(["build", "--index", str(place / "i"), *arguments])
        yield place


@pytest.mark.slow
def test_retrieve_prints_the_same_from_an_index(corpus, capsys):
    arguments = ["--model", str(corpus / "preset")]
    arguments += ["--queries", str(corpus / "queries.txt"), "--k", "4"]
    retrieve.main([*arguments, "--corpus", str(corpus / "corpus.txt")])
    expected = capsys.readouterr().out
    assert "#4" in expected
    retrieve.main([*arguments, "--index", str(corpus / "i")])
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--index", "i", "--pooling", "avg"], "--pooling, --max-length: expected nei"),
        (["--index", "i", "j"], "one index for each model, 1, received 2"),
        (["--index", "nowhere"], "nowhere: expected an index"),
    ],
)
def test_what_an_index_decides_is_not_asked_for(corpus, arguments, message):
    queries = str(corpus / "queries.txt")
    with pytest.raises(UserError, match=message):
        retrieve.main(["--model", "x", "--queries", queries, *arguments])


def test_retrieve_needs_texts(tmp_path, corpus, monkeypatch):
    build(str(tmp_path / "i"), Texts(["a", "b"], has_texts=False))
    monkeypatch.setattr(querying, "load_query_encoder", None)
    arguments = ["--model", "x", "--queries", str(corpus / "queries.txt")]
    with pytest.raises(UserError, match="expected an index with texts"):
        retrieve.main([*arguments, "--index", str(tmp_path / "i")])
