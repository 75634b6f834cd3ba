import pytest
from support.models import SENTENCES

from simcse_tf.core.errors import UserError
from simcse_tf.data import positives
from simcse_tf.training.config import parse_config

DOCUMENT = ["a1", "a2", "a3", "a4", "", "", "b1", "", "c1", "c2"]
FOLLOWERS = {
    1: {"a1": {"a2"}, "a2": {"a3"}, "a3": {"a4"}, "c1": {"c2"}},
    3: {
        "a1": {"a2", "a3", "a4"},
        "a2": {"a3", "a4"},
        "a3": {"a4"},
        "c1": {"c2"},
    },
}


def open_source(path, text, objective=(), data=()):
    path.write_text(text)
    return positives.training_source(
        parse_config(
            {
                "model": {"preset": "p"},
                "objective": dict(objective),
                "data": {"train": str(path), **dict(data)},
                "output_dir": "o",
            }
        )
    )


def read(source, epoch=0):
    rows = source.read(range(len(source)), epoch)
    return [tuple(text.decode() for text in row) for row in rows]


@pytest.mark.parametrize("next_k", [1, 3])
def test_a_positive_is_one_of_the_next_k_sentences_of_the_paragraph(tmp_path, next_k):
    objective = {"kind": "next_sentence", "next_k": next_k}
    source = open_source(tmp_path / "d.txt", "\n".join(DOCUMENT), objective)
    assert source.columns == 2
    drawn = {anchor: set() for anchor in FOLLOWERS[next_k]}
    for epoch in range(40):
        rows = read(source, epoch)
        assert [anchor for anchor, _ in rows] == list(drawn)
        for anchor, positive in rows:
            drawn[anchor].add(positive)
    assert drawn == FOLLOWERS[next_k]


def test_real_documents_give_an_anchor_for_every_sentence_but_the_last(data_dir):
    path = data_dir / "wiki_documents.txt"
    source = positives.NextSentenceSource(str(path), next_k=3, seed=1)
    paragraphs = [p.split("\n") for p in path.read_text("utf-8").strip().split("\n\n")]
    assert len(source) == sum(len(p) - 1 for p in paragraphs) == 2551 - 983
    expected = {
        (anchor, later)
        for p in paragraphs
        for i, anchor in enumerate(p)
        for later in p[i + 1 : i + 4]
    }
    assert set(read(source)) <= expected


@pytest.mark.parametrize(
    ("objective", "data"),
    [
        ({"kind": "next_sentence", "next_k": 3}, {}),
        ({}, {"augmentation": "crop", "augmentation_rate": 0.5}),
    ],
)
def test_a_positive_follows_from_seed_epoch_and_place_alone(tmp_path, objective, data):
    text = "\n".join(SENTENCES)
    source = open_source(tmp_path / "t.txt", text, objective, data)
    whole = read(source, epoch=2)
    assert read(source, epoch=3) != whole
    for index in (5, 0, 3):
        assert source.read([index], 2) == [
            tuple(text.encode() for text in whole[index])
        ]
    other = open_source(tmp_path / "t.txt", text, objective, {**data, "seed": 1})
    assert read(other, epoch=2) != whole


def test_an_augmented_sentence_stays_its_own_anchor(tmp_path):
    source = open_source(
        tmp_path / "t.txt", "\n".join(SENTENCES), data={"augmentation": "crop"}
    )
    for (anchor, positive), sentence in zip(read(source), SENTENCES, strict=True):
        assert anchor == sentence
        assert positive in anchor


def test_other_configs_read_the_file_as_it_is(tmp_path):
    source = open_source(tmp_path / "t.csv", "sent0,sent1\na,b\nc,d\n")
    assert read(source) == [("a", "b"), ("c", "d")]
    source = open_source(tmp_path / "t.txt", "a\nb\n", {"same_mask": True})
    assert read(source) == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("name", "text", "objective", "data", "message"),
    [
        ("t.txt", "a\n\nb\n", {"kind": "next_sentence"}, {}, "no paragraph of two"),
        ("t.csv", "", {"kind": "next_sentence"}, {}, "to be a .txt file with"),
        ("t.csv", "sent0,sent1\na,b\n", {"same_mask": True}, {}, "same_mask: .* 2 col"),
        ("t.csv", "sent0,sent1\na,b\n", {}, {"augmentation": "crop"}, "crop: .* 2 col"),
    ],
)
def test_data_that_do_not_fit_the_objective_are_told(
    tmp_path, name, text, objective, data, message
):
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / name, text, objective, data)
