"""Sources that draw an anchor's positive, where the data do not hold it.

A positive is drawn anew in every epoch, from the seed, the epoch and the anchor's
place in the data alone: a resumed run draws the same ones.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.text_lines import LocatedLines
from simcse_tf.data.augmentation import Augmenter
from simcse_tf.data.base import Row, Source
from simcse_tf.data.files import FileSource


class AugmentedSource:
    """Single sentences, each with an augmentation of itself as the positive.

    Args:
        source: The sentences.
        augment: A `simcse_tf.data.augmentation.Augmenter`.
        seed: int.

    Attributes:
        sentences: The sentences, without positives.

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), table 1

    Example:

    ```python
    AugmentedSource(open_source("sentences.txt"), word_augmenter("crop"), seed=42)
    ```
    """

    columns = 2
    scored = False
    varies = True

    def __init__(self, source: Source, augment: Augmenter, seed: int):
        self.sentences = source
        self.origins: Sequence[Source] = [source]
        self._augment = augment
        self._seed = seed
        self.skipped = source.skipped
        self.notes = source.notes

    def __len__(self) -> int:
        return len(self.sentences)

    @property
    def fingerprint(self) -> str:
        """See `simcse_tf.data.base.Source`."""
        return self.sentences.fingerprint

    def read(self, indices: Sequence[int], epoch: int = 0) -> list[Row]:
        """The examples at `indices`; see `simcse_tf.data.base.Source.read`."""
        anchors = [anchor for (anchor,) in self.sentences.read(indices, epoch)]
        generators = [_generator(self._seed, epoch, index) for index in indices]
        # A tokenizer reads bytes that are not UTF-8 in the same way.
        texts = [anchor.decode("utf-8", "replace") for anchor in anchors]
        positives = self._augment(texts, generators)
        return [
            (anchor, positive.encode("utf-8"))
            for anchor, positive in zip(anchors, positives, strict=True)
        ]


class NextSentenceSource:
    """Sentences of documents, each with one of the next sentences of its paragraph.

    A sentence without a next one is no anchor.

    Args:
        path: string. A `.txt` file with a sentence a line and a blank line between
            paragraphs.
        next_k: int. The positive is one of the next `next_k` sentences.
        seed: int.

    Raises:
        UserError: If the file cannot be read, or no paragraph has two sentences.

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), table 2
        - [Logeswaran and Lee 2018](https://arxiv.org/abs/1803.02893)

    Example:

    ```python
    NextSentenceSource("documents.txt", next_k=3, seed=42).columns  # 2
    ```
    """

    columns = 2
    scored = False
    varies = True
    # The blank lines are part of the format.
    skipped = 0

    def __init__(self, path: str, next_k: int, seed: int):
        if Path(path).suffix.lower() != ".txt":
            raise UserError(
                "objective.kind next_sentence: expected data.train to be a .txt file "
                "with a sentence a line and a blank line between paragraphs, received "
                f"{path}"
            )
        self._sentences = FileSource(path)
        self.origins: Sequence[Source] = [self._sentences]
        self.notes: Sequence[str] = self._sentences.notes
        self._seed = seed
        ends = _paragraph_ends(path)
        followers = ends - np.arange(len(ends)) - 1
        self._anchors = np.flatnonzero(followers)
        self._choices = np.minimum(followers[self._anchors], next_k)
        if not len(self._anchors):
            raise UserError(
                f"objective.kind next_sentence: {path} holds no paragraph of two "
                "sentences; expected a sentence a line and a blank line between "
                "paragraphs"
            )

    def __len__(self) -> int:
        return len(self._anchors)

    @property
    def fingerprint(self) -> str:
        """See `simcse_tf.data.base.Source`."""
        return self._sentences.fingerprint

    def read(self, indices: Sequence[int], epoch: int = 0) -> list[Row]:
        """The examples at `indices`; see `simcse_tf.data.base.Source.read`."""
        anchors = self._anchors[indices]
        steps = [
            _generator(self._seed, epoch, index).integers(1, self._choices[index] + 1)
            for index in indices
        ]
        texts = self._sentences.read([*anchors, *(anchors + steps)])
        return [
            (anchor, positive)
            for (anchor,), (positive,) in zip(
                texts[: len(anchors)], texts[len(anchors) :], strict=True
            )
        ]


def _paragraph_ends(path: str) -> np.ndarray:
    """For each sentence, how many the file holds up to its paragraph's end."""
    lengths = [0]
    for line in LocatedLines(path):
        if line.strip():
            lengths[-1] += 1
        else:
            lengths.append(0)
    return np.repeat(np.cumsum(lengths), lengths)


def _generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, epoch, index])
