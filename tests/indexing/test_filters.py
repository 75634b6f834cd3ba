import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.indexes import Texts

from simcse_tf.core.errors import UserError
from simcse_tf.indexing.changes import build
from simcse_tf.indexing.filters import matching, parse
from simcse_tf.indexing.index import Index

TYPES = {"year": "int", "lang": "string", "score": "float", "new": "bool", "a b": "int"}
ROWS = [
    {"year": 2019, "lang": "de", "score": 0.5, "new": True, "a b": 1},
    {"year": 2020, "lang": 'say "hi"', "score": 2.0, "new": False, "a b": 2},
    {"year": 2021, "lang": "it's", "score": -1.0, "new": True, "a b": 3},
    {"year": None, "lang": None, "score": None, "new": None, "a b": 2**62},
]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    place = tmp_path_factory.mktemp("filters") / "rows.index"
    rows = [(str(n), f"text {n}", row) for n, row in enumerate(ROWS)]
    build(str(place), Texts(rows))
    return Index.open(place)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("year >= 2020", [1, 2]),
        ("year>2019.5 AND new = true", [2]),
        ("year != 2020", [0, 2]),
        ("year = 2020, new = false", [1]),
        ("score <= 0.5", [0, 2]),
        ("score = 2", [1]),
        ('lang = "de"', [0]),
        (r'lang = "say \"hi\""', [1]),
        ("lang = 'say \"hi\"'", [1]),
        (r"lang = 'it\'s'", [2]),
        ('lang >= "i"', [1, 2]),
        ('lang in ("de", "it\'s")', [0, 2]),
        ('lang not in ("de")', [1, 2]),
        ("year in (2019, 2020.5)", [0]),
        ("year in (2020.5)", []),
        ("score in (2, 0.5)", [0, 1]),
        ("year is null", [3]),
        ("lang IS NOT NULL and year < 2021", [0, 1]),
        ("`a b` = 4611686018427387904", [3]),
        ("new != true", [1]),
    ],
)
def test_conditions_choose_rows(index, where, expected):
    assert matching(index, where).nonzero()[0].tolist() == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "expected a column, received its end"),
        ("yaer = 1", 'no column "yaer"; the index has: year, lang, score, new, a b'),
        ('year = "2020"', "year is of type int"),
        ("year = 1e999", "year is of type int"),
        ("lang = 5", "a text stands in quotes"),
        ("lang = de", "expected a number or a text in quotes"),
        ("new > true", "new is true or false"),
        ("year >", "received its end"),
        ("year = 1 or year = 2", 'expected and, received "or"'),
        ("year ! 1", "cannot read"),
        ("year in ()", "expected a number"),
        ("year in (1", "expected )"),
        ("year = 1; import os", "cannot read"),
        (r'lang = "\q"', "JSON's escapes"),
        ("year = 99999999999999999999", "year is of type int"),
        ("__class__ = 1", "there is no column"),
    ],
)
def test_what_is_no_condition_is_told(where, message):
    with pytest.raises(UserError) as error:
        parse(where, TYPES)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(
                [*TYPES, *string.punctuation, "in", "not", "is", "null", "and", "1"]
            )
        ).map(" ".join),
    )
)
def test_any_string_is_conditions_or_a_mistake(where):
    try:
        found = parse(where, TYPES)
    except UserError:
        return
    assert found


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_any_text_can_be_asked_for(text):
    import json

    [condition] = parse(f"lang = {json.dumps(text)}", TYPES)
    assert condition.values == [text]
