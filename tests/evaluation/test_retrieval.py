import re

import numpy as np
import pytest
from support.models import SENTENCES

from simcse_tf import retrieve
from simcse_tf.core.errors import UserError
from simcse_tf.evaluation import retrieval


def embeddings_of(table):
    """An encoder that looks sentences up, and counts its calls."""

    def encode(sentences):
        encode.calls += 1
        return np.array([table[sentence] for sentence in sentences])

    encode.calls = 0
    return encode


TABLE = {
    "up": [0.0, 1.0],
    "right": [1.0, 0.0],
    "steep": [0.1, 1.0],
    "diagonal": [1.0, 1.0],
    "down": [0.0, -1.0],
}


def test_examples_leave_out_duplicates_and_the_query_itself():
    corpus = ["down", "up", "steep", "up", "diagonal", "steep", "right"]
    models = {"one": embeddings_of(TABLE), "other": embeddings_of(TABLE)}
    up, right = retrieval.examples(models, ["up", "right"], corpus, k=3)
    assert (up.query, right.query) == ("up", "right")
    for name, encode in models.items():
        assert [hit.sentence for hit in up.hits[name]] == ["steep", "diagonal", "right"]
        assert [hit.sentence for hit in right.hits[name]] == [
            "diagonal",
            "steep",
            "down",
        ]
        assert encode.calls == 1
    assert up.hits["one"][1].cosine == pytest.approx(np.sqrt(0.5), abs=1e-6)


def test_a_query_that_the_corpus_lacks_gets_k_sentences_and_a_small_corpus_fewer():
    encode = embeddings_of(TABLE)
    (example,) = retrieval.examples({"m": encode}, ["up"], ["down", "right"], k=2)
    assert [hit.sentence for hit in example.hits["m"]] == ["right", "down"]
    (example,) = retrieval.examples({"m": encode}, ["up"], ["up", "right"], k=2)
    assert [hit.sentence for hit in example.hits["m"]] == ["right"]


@pytest.mark.slow
def test_minilm_finds_the_paraphrase(minilm):
    corpus = [*SENTENCES, "Somebody plays the guitar."]
    encode = {"MiniLM": minilm.predict}
    (example,) = retrieval.examples(encode, [SENTENCES[0]], corpus, k=1)
    assert example.hits["MiniLM"][0].sentence == "Somebody plays the guitar."


HITS = [
    retrieval.Hit("a rather long sentence about nothing in particular", 0.98765),
    retrieval.Hit("a | pipe, *stars*, <b>tags</b>\nand `code`", -0.5),
]
EXAMPLES = [
    retrieval.Example("What is it?", {"runs/mine/best": HITS, "MiniLM": HITS[:1]})
]


@pytest.mark.parametrize("width", [50, 61, 100])
def test_text_fits_the_width_and_keeps_every_word(width):
    text = retrieval.format_text(EXAMPLES, width)
    assert all(len(line) <= width for line in text.split("\n"))
    assert text.startswith("Query: What is it?\n")
    # Each model's column, read from top to bottom.
    column = (width - 5 - 2) // 2
    left, right = (
        " ".join(
            line[start : start + column].strip() for line in text.split("\n")[1:]
        ).split()
        for start in (5, 5 + column + 2)
    )
    assert left == [
        "runs/mine/best", "0.988", *HITS[0].sentence.split(),
        "-0.500", *HITS[1].sentence.split(),
    ]  # fmt: skip
    assert right == ["MiniLM", "0.988", *HITS[0].sentence.split(), "-"]


def test_text_takes_the_terminals_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    assert retrieval.format_text(EXAMPLES) == retrieval.format_text(EXAMPLES, 50)


def test_markdown_escapes_markup():
    lines = retrieval.format_markdown(EXAMPLES).split("\n")
    assert lines == [
        "**Query:** What is it?",
        "",
        "|  | runs/mine/best | MiniLM |",
        "| --- | --- | --- |",
        f"| #1 | {HITS[0].sentence} (0.988) | {HITS[0].sentence} (0.988) |",
        r"| #2 | a \| pipe, \*stars\*, \<b\>tags\</b\> and \`code\` (-0.500) | - |",
    ]


@pytest.fixture
def command(tmp_path):
    """Calls the command line, with a corpus that holds a sentence twice."""
    queries, corpus = tmp_path / "queries.txt", tmp_path / "corpus.txt"
    queries.write_text(f"{SENTENCES[0]}\n")
    corpus.write_text("\n".join([*SENTENCES, SENTENCES[1]]))

    def call(*arguments):
        files = ["--queries", queries, "--corpus", corpus]
        retrieve.main([*map(str, [*files, *arguments])])

    return call


@pytest.mark.slow
def test_the_command_sets_two_models_side_by_side(
    command, small_preset, tmp_path, capsys
):
    other = tmp_path / "other"
    other.symlink_to(small_preset)
    models = ["--model", other, "--compare", small_preset]
    output = tmp_path / "out" / "table.md"
    command(*models, "--k", 2, "--format", "markdown", "--output", output)
    lines = output.read_text().splitlines()
    assert lines[0] == f"**Query:** {SENTENCES[0]}"
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| #1", "| #2"]
    told = capsys.readouterr()
    assert told.out == ""
    assert "9 sentences, 8 of them different" in told.err
    assert "queries that stand in the corpus: 1;" in told.err

    command("--model", small_preset)
    printed = capsys.readouterr().out
    assert printed.startswith(f"Query: {SENTENCES[0]}\n")
    assert re.findall(r"^#\d", printed, re.M) == ["#1", "#2", "#3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "x", "--compare", "x"], "--compare: expected another model"),
        (["--model", "x", "--k", "0"], "--k: expected 1 or more"),
        (["--model", "x", "--corpus", "nowhere.txt"], "cannot read nowhere.txt"),
        (["--model", "nowhere"], "no model 'nowhere'"),
    ],
)
def test_a_mistake_is_told_in_one_line(command, arguments, message):
    with pytest.raises(UserError, match=message):
        command(*arguments)


@pytest.mark.parametrize("form", [retrieval.format_text, retrieval.format_markdown])
def test_a_corpus_cannot_command_the_terminal(form):
    hostile = "\x1b]0;owned\x07 \x9b2J text \u202e reversed"
    text = form([retrieval.Example(hostile, {hostile: [retrieval.Hit(hostile, 0.5)]})])
    assert all(character.isprintable() or character == "\n" for character in text)
    assert text.count("owned") == 3
    assert "x1b" in text
