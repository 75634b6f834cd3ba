"""Data augmentation of sentences: the baselines that dropout is compared with.

An augmenter maps sentences, and a random generator for each, to other sentences.
The result for one sentence does not depend on the rest of the batch.

Reference:
    - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), table 1
"""

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

from numpy.random import Generator

from simcse_tf.core.errors import UserError
from simcse_tf.core.extras import require

Augmenter: TypeAlias = Callable[[Sequence[str], Sequence[Generator]], list[str]]


def crop(words: Sequence[str], rng: Generator, rate: float) -> list[str]:
    """Keeps a random contiguous span of `1 - rate` of the words, at least one.

    Example:

    ```python
    crop(["a", "man", "plays", "guitar"], np.random.default_rng(0), 0.5)
    ```
    """
    kept = max(1, round(len(words) * (1 - rate)))
    start = int(rng.integers(max(1, len(words) - kept + 1)))
    return list(words[start : start + kept])


def delete_words(words: Sequence[str], rng: Generator, rate: float) -> list[str]:
    """Leaves out each word with probability `rate`; one random word always stays.

    Example:

    ```python
    delete_words(["a", "man", "plays", "guitar"], np.random.default_rng(0), 0.3)
    ```
    """
    kept = rng.random(len(words)) >= rate
    if len(words):
        kept[rng.integers(len(words))] = True
    return [word for word, keep in zip(words, kept, strict=True) if keep]


def delete_one_word(words: Sequence[str], rng: Generator) -> list[str]:
    """Leaves out one random word, unless it is the only one.

    Example:

    ```python
    delete_one_word(["a", "man", "plays"], np.random.default_rng(0))
    ```
    """
    if len(words) < 2:
        return list(words)
    deleted = int(rng.integers(len(words)))
    return [*words[:deleted], *words[deleted + 1 :]]


def repeat_words(words: Sequence[str], rng: Generator, rate: float) -> list[str]:
    """Repeats some random words, each behind itself.

    How many is random too: from none to the share `rate` of the words, or to two where
    that is more.

    Example:

    ```python
    repeat_words(["a", "man", "plays", "guitar"], np.random.default_rng(0), 0.32)
    ```

    Reference:
        - [Wu et al. 2022](https://arxiv.org/abs/2109.04380), equations 2 and 3, of
          sub-words
    """
    most = max(2, int(rate * len(words)))
    count = min(int(rng.integers(most + 1)), len(words))
    repeated = set(rng.choice(len(words), count, replace=False)) if count else set()
    return [
        word
        for position, word in enumerate(words)
        for _ in range(1 + (position in repeated))
    ]


def replace_by_synonym(words: Sequence[str], rng: Generator) -> list[str]:
    """Replaces one random word by one of its synonyms in WordNet, if any word has one.

    Example:

    ```python
    replace_by_synonym(["the", "car", "stopped"], np.random.default_rng(0))
    ```
    """
    replaced = list(words)
    for position in rng.permutation(len(words)):
        found = synonyms(words[position])
        if found:
            replaced[position] = found[rng.integers(len(found))]
            break
    return replaced


@functools.lru_cache(maxsize=100_000)
def synonyms(word: str) -> tuple[str, ...]:
    """WordNet's synonyms of a word in any of its senses, sorted, without the word.

    Example:

    ```python
    synonyms("car")  # ("auto", "automobile", ...)
    ```
    """
    from nltk.corpus import wordnet

    names = {name for synset in wordnet.synsets(word) for name in synset.lemma_names()}
    found = {name.replace("_", " ") for name in names}
    return tuple(sorted(name for name in found if name.lower() != word.lower()))


def word_augmenter(kind: str, rate: float = 0.1) -> Augmenter:
    """An augmenter that works on the words between white space.

    Args:
        kind: string. `"crop"`, `"word_deletion"`, `"delete_one_word"`,
            `"word_repetition"` or `"synonym"`.
        rate: float. The share of the words that crop and word deletion remove, and up
            to which word repetition repeats them. Defaults to `0.1`.

    Raises:
        UserError: If WordNet's data is not there for `"synonym"`.

    Example:

    ```python
    augment = word_augmenter("crop", rate=0.2)
    augment(["A man plays the guitar."], [np.random.default_rng(0)])
    ```
    """
    changes: dict[str, Callable[[Sequence[str], Generator], list[str]]] = {
        "crop": functools.partial(crop, rate=rate),
        "word_deletion": functools.partial(delete_words, rate=rate),
        "delete_one_word": delete_one_word,
        "word_repetition": functools.partial(repeat_words, rate=rate),
        "synonym": replace_by_synonym,
    }
    if kind == "synonym":
        _check_wordnet()
    change = changes[kind]
    return lambda sentences, generators: [
        " ".join(change(sentence.split(), rng))
        for sentence, rng in zip(sentences, generators, strict=True)
    ]


def _check_wordnet() -> None:
    require("nltk")
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except (LookupError, OSError):
        raise UserError(
            "data.augmentation synonym: NLTK finds no whole WordNet; "
            "`python -m nltk.downloader wordnet` fetches it, or NLTK_DATA names the "
            "directory that holds corpora/wordnet"
        ) from None
