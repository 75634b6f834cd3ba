import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simcse_tf.core.errors import UserError
from simcse_tf.data import augmentation

WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=20)
SEEDS = st.integers(0, 2**32 - 1)
RATES = st.floats(0.05, 0.95)


def rng(seed):
    return np.random.default_rng(seed)


def is_subsequence(short, long):
    rest = iter(long)
    return all(word in rest for word in short)


@given(WORDS, SEEDS, RATES)
def test_crop_keeps_a_contiguous_span_of_the_wanted_length(words, seed, rate):
    kept = augmentation.crop(words, rng(seed), rate)
    assert len(kept) == max(1, round(len(words) * (1 - rate)))
    spans = [words[i : i + len(kept)] for i in range(len(words))]
    assert kept in spans


def test_crop_starts_anywhere_that_it_fits():
    words = list("abcdefghij")
    starts = {augmentation.crop(words, rng(seed), 0.3)[0] for seed in range(100)}
    assert starts == set("abcd")


@given(WORDS, SEEDS, RATES)
def test_word_deletion_leaves_a_part_in_order_and_never_nothing(words, seed, rate):
    kept = augmentation.delete_words(words, rng(seed), rate)
    assert kept
    assert is_subsequence(kept, words)


def test_word_deletion_removes_its_share():
    kept = augmentation.delete_words(["word"] * 10_000, rng(1), 0.3)
    assert len(kept) == pytest.approx(7_000, abs=200)


@given(WORDS, SEEDS)
def test_delete_one_word_removes_one_unless_it_is_the_only_one(words, seed):
    kept = augmentation.delete_one_word(words, rng(seed))
    assert len(kept) == max(1, len(words) - 1)
    assert is_subsequence(kept, words)


@given(WORDS, SEEDS, RATES)
def test_word_repetition_repeats_some_words_in_place(words, seed, rate):
    repeated = augmentation.repeat_words(words, rng(seed), rate)
    assert is_subsequence(words, repeated)
    assert [word for word, _ in itertools.groupby(repeated)] == [
        word for word, _ in itertools.groupby(words)
    ]
    assert 0 <= len(repeated) - len(words) <= min(len(words), max(2, rate * len(words)))


def test_word_repetition_draws_how_many_and_which_evenly():
    words = [str(i) for i in range(20)]
    drawn = [augmentation.repeat_words(words, rng(seed), 0.32) for seed in range(4000)]
    counts = Counter(len(repeated) - 20 for repeated in drawn)
    assert sorted(counts) == list(range(7))
    assert min(counts.values()) > 4000 / 7 * 0.8
    which = Counter(word for row in drawn for word in row)
    np.testing.assert_allclose(
        [which[word] for word in words], 4000 * (1 + 3 / 20), rtol=0.03
    )


@pytest.mark.parametrize(
    "kind", ["crop", "word_deletion", "delete_one_word", "word_repetition"]
)
def test_a_sentence_is_augmented_by_its_own_generator_alone(kind):
    augment = augmentation.word_augmenter(kind, 0.3)
    sentences = ["one two  three four five", "", "six", "seven eight nine ten"]
    together = augment(sentences, [rng(seed) for seed in range(4)])
    alone = [augment([text], [rng(seed)])[0] for seed, text in enumerate(sentences)]
    assert together == alone
    assert together[1] == ""
    assert set(together[2].split()) == {"six"}
    assert together[0] != "one two three four five"


@pytest.fixture
def wordnet():
    try:
        augmentation.word_augmenter("synonym")
    except UserError as error:
        pytest.skip(str(error))


def test_a_synonym_of_wordnet_takes_one_words_place(wordnet):
    assert "automobile" in augmentation.synonyms("car")
    assert "car" not in augmentation.synonyms("car")
    augment = augmentation.word_augmenter("synonym")
    cars = {f"the {word} xyzzy stopped" for word in augmentation.synonyms("car")}
    stops = {f"the car xyzzy {word}" for word in augmentation.synonyms("stopped")}
    drawn = {augment(["the car xyzzy stopped"], [rng(s)])[0] for s in range(40)}
    assert drawn <= cars | stops
    assert drawn & cars
    assert drawn & stops
    assert augment(["xyzzy"], [rng(1)]) == ["xyzzy"]


def test_without_wordnet_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    import nltk.data
    from nltk.corpus.reader import WordNetCorpusReader
    from nltk.corpus.util import LazyCorpusLoader

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    fresh = LazyCorpusLoader("wordnet", WordNetCorpusReader, None)
    monkeypatch.setattr("nltk.corpus.wordnet", fresh)
    with pytest.raises(UserError, match=r"no whole WordNet; .*nltk.downloader wordnet"):
        augmentation.word_augmenter("synonym")
