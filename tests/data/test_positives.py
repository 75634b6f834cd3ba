import pytest
from support.models import SENTENCES

from simcse_tf.core.errors import UserError
from simcse_tf.data.augmentation import word_augmenter
from simcse_tf.data.positives import AugmentedSource, NextSentenceSource
from simcse_tf.data.sources import open_source

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


def next_sentences(path, text, next_k=1, seed=42):
    path.write_text(text)
    return NextSentenceSource(str(path), next_k, seed)


def crops(path, text, rate=0.1, seed=42):
    path.write_text(text)
    return AugmentedSource(open_source(str(path)), word_augmenter("crop", rate), seed)


def read(source, epoch=0):
    rows = source.read(range(len(source)), epoch)
    return [tuple(text.decode() for text in row) for row in rows]


@pytest.mark.parametrize("next_k", [1, 3])
def test_a_positive_is_one_of_the_next_k_sentences_of_the_paragraph(tmp_path, next_k):
    source = next_sentences(tmp_path / "d.txt", "\n".join(DOCUMENT), next_k)
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
    source = NextSentenceSource(str(path), next_k=3, seed=1)
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
    ("open_with_positives", "options"),
    [(next_sentences, {"next_k": 3}), (crops, {"rate": 0.5})],
)
def test_a_positive_follows_from_seed_epoch_and_place_alone(
    tmp_path, open_with_positives, options
):
    text = "\n".join(SENTENCES)
    source = open_with_positives(tmp_path / "t.txt", text, **options)
    whole = read(source, epoch=2)
    assert read(source, epoch=3) != whole
    for index in (5, 0, 3):
        assert source.read([index], 2) == [
            tuple(text.encode() for text in whole[index])
        ]
    other = open_with_positives(tmp_path / "t.txt", text, **options, seed=1)
    assert read(other, epoch=2) != whole


def test_an_augmented_sentence_stays_its_own_anchor(tmp_path):
    source = crops(tmp_path / "t.txt", "\n".join(SENTENCES))
    for (anchor, positive), sentence in zip(read(source), SENTENCES, strict=True):
        assert anchor == sentence
        assert positive in anchor


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "a\n\nb\n", "no paragraph of two"),
        ("t.csv", "", "to be a .txt file with"),
    ],
)
def test_a_file_without_next_sentences_is_refused(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message):
        next_sentences(tmp_path / name, text)
