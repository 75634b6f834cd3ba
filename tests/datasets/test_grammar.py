"""The grammar: what it writes is well formed, disjoint and the same every time."""

import csv
import dataclasses
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.core import cli
from simcse_tf.core.errors import UserError
from simcse_tf.datasets import grammar, lexicon
from simcse_tf.evaluation.tasks import find_data, load_tasks

ROOT = Path(__file__).parents[2]
# Words that carry no content of their own, and so may stand in both lexicons.
SHARED = set("a an at by for from in near of on the to was".split())  # noqa: SIM905
FAMILIES = {family.__name__.strip("_"): family for family in grammar.FAMILIES}


def run(*args, **environment):
    return subprocess.run(
        [sys.executable, "-m", "simcse_tf.datasets.grammar", *map(str, args)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def files(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def words(entry):
    """The words in a lexicon's entry, however deep in tuples."""
    if isinstance(entry, str):
        return set(re.findall(r"[a-z]+", re.sub(r"\{\w\}", "", entry.lower())))
    return set().union(*map(words, entry))


def content_words(lex):
    fields = (getattr(lex, field.name) for field in dataclasses.fields(lex))
    return words(tuple(fields)) - SHARED


def assert_well_formed(sentence):
    assert re.fullmatch(r"[A-Z][A-Za-z ,']*[a-z]\.", sentence), sentence
    assert "  " not in sentence
    assert " ," not in sentence
    assert not re.search(r"\b(\w+) \1\b", sentence.lower()), sentence
    assert not re.search(r"\ba [aeio]", sentence), sentence
    assert not re.search(r"\ban [^aeiou]", sentence), sentence
    assert 4 <= len(sentence.split()) <= 22, sentence


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("grammar") / "new" / "directory"
    grammar.write(directory, count=400)
    return directory


def test_the_same_seed_writes_the_same_bytes_under_any_hash_seed(tmp_path):
    outputs = []
    for hash_seed in ("1", "2"):
        directory = tmp_path / hash_seed
        result = run(
            *("--output", directory, "--triplets", "50"), PYTHONHASHSEED=hash_seed
        )
        assert result.returncode == 0, result.stderr
        outputs.append(files(directory))
    assert outputs[0] == outputs[1]
    assert sorted(outputs[0]) == [
        "nli.csv",
        "pairs/dev.csv",
        "pairs/test.csv",
    ]


def test_another_seed_gives_other_sentences():
    assert grammar.triplets(20, seed=1) != grammar.triplets(20, seed=2)
    assert grammar.graded_pairs(seed=1) != grammar.graded_pairs(seed=2)


def test_fewer_triplets_are_the_first_of_more():
    assert grammar.triplets(100)[:30] == grammar.triplets(30)


def test_csv_has_three_columns_under_the_header_of_the_paper(written):
    with (written / "nli.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["sent0", "sent1", "hard_neg"]
    assert len(rows) == 400
    assert {len(row) for row in rows} == {3}
    assert [tuple(row) for row in rows] == grammar.triplets(400)


def test_the_evaluation_reads_the_graded_pairs(written):
    found = find_data(written / "pairs")
    for split, per_grade in grammar.PAIRS_PER_GRADE.items():
        pairs = load_tasks(found, split=split).own["pairs"]
        assert Counter(pairs.scores) == dict.fromkeys(range(6), per_grade)
        expected = grammar.graded_pairs()[split]
        assert pairs.sentences_a == [pair.sentence_a for pair in expected]
        assert pairs.sentences_b == [pair.sentence_b for pair in expected]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_no_sentence_occurs_twice_in_training_or_in_evaluation(seed):
    trained = [s for row in grammar.triplets(150, seed) for s in row]
    held_out = [
        sentence
        for pairs in grammar.graded_pairs(seed).values()
        for pair in pairs
        for sentence in (pair.sentence_a, pair.sentence_b)
    ]
    assert max(Counter(trained + held_out).values()) == 1


def test_the_two_lexicons_share_no_content_word():
    shared = content_words(lexicon.TRAINING) & content_words(lexicon.HELD_OUT)
    assert shared == set()


def test_synonyms_and_opposites_are_different_words():
    for lex in (lexicon.TRAINING, lexicon.HELD_OUT):
        for one, other in lex.deeds:
            assert set(one).isdisjoint(other)
        for one, other, things in (*lex.handlings, *lex.states):
            assert set(one).isdisjoint(other)
            assert things


@pytest.mark.parametrize("lex", [lexicon.TRAINING, lexicon.HELD_OUT])
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), grade=st.sampled_from(sorted(grammar.GRADES)))
def test_every_family_writes_well_formed_sentences(lex, family, seed, grade):
    rng = Random(seed)
    scene = grammar._scene(rng, FAMILIES[family], lex)
    premise = rng.choice(scene.clause.same)
    for sentence in (
        grammar._sentence(rng, premise, scene.details),
        grammar._regrade(rng, scene, premise, grade),
    ):
        assert_well_formed(sentence)


@pytest.mark.parametrize("lex", [lexicon.TRAINING, lexicon.HELD_OUT])
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_wording_of_a_clause_is_also_its_opposite(lex, family, seed):
    clause = FAMILIES[family](Random(seed), lex)
    assert len(clause.same) > 1
    for kind in ("opposed", "other", "altered"):
        assert set(clause.same).isdisjoint(getattr(clause, kind)), kind


def test_triplets_are_three_different_well_formed_sentences():
    for row in grammar.triplets(300):
        assert len(set(row)) == 3
        for sentence in row:
            assert_well_formed(sentence)


def test_every_family_has_every_grade():
    pairs = grammar.graded_pairs()["test"]
    assert {(pair.family, pair.grade) for pair in pairs} == {
        (family, grade) for family in FAMILIES for grade in grammar.GRADES
    }


def test_contradictions_keep_the_words_of_the_premise():
    """Common words must not separate contradictions from entailments."""

    def overlap(a, b):
        a, b = words(a), words(b)
        return len(a & b) / len(a | b)

    rows = grammar.triplets(500)
    entailed = sum(overlap(a, b) for a, b, _ in rows) / len(rows)
    contradicting = sum(overlap(a, c) for a, _, c in rows) / len(rows)
    assert contradicting > entailed - 0.1


def test_the_summary_shows_examples_of_what_was_written(tmp_path, capsys):
    grammar.main(["--output", str(tmp_path), "--triplets", "40", "--seed", "7"])
    printed = capsys.readouterr().out
    assert "40 triplets" in printed
    assert "300 dev and 600 test pairs" in printed
    assert printed.count("hard_neg:") == 3
    for sentence in grammar.triplets(40, seed=7)[2]:
        assert sentence in printed


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "--output"),
        (("--output", "x", "--triplets", "0"), "--triplets: expected at least 1"),
        (("--output", "x", "--triplets", "many"), "--triplets"),
    ],
)
def test_mistakes_are_reported_in_one_line(args, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: grammar.main(args))
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_mistake_ends_the_process_with_exit_code_2():
    result = run("--output", "x", "--triplets", "0")
    assert result.returncode == 2
    assert result.stderr == "error: --triplets: expected at least 1, received 0\n"


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(UserError, match=r"cannot write in .*file"):
        grammar.write(tmp_path / "file", count=5)
    assert (tmp_path / "file").read_text() == "not a directory"


def test_other_files_in_the_output_directory_stay(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    grammar.write(tmp_path, count=5)
    grammar.write(tmp_path, count=6)
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert len((tmp_path / "nli.csv").read_text().splitlines()) == 7
    assert not list(tmp_path.rglob(".*"))


def test_asking_for_more_than_the_grammar_has_is_an_error(monkeypatch):
    few = {
        "places": lexicon.TRAINING.places[:2],
        "states": lexicon.TRAINING.states[:1],
    }
    monkeypatch.setattr(
        grammar, "TRAINING", dataclasses.replace(lexicon.TRAINING, **few)
    )
    monkeypatch.setattr(grammar, "TIMES", lexicon.TIMES[:2])
    monkeypatch.setattr(grammar, "FAMILIES", (FAMILIES["state"],))
    with pytest.raises(UserError, match="ask for fewer"):
        grammar.triplets(10**4)
