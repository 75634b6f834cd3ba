"""Premises with an entailment and a contradiction, from the rows of an NLI corpus."""

from collections.abc import Sequence

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.data.base import Row, Source
from simcse_tf.data.columns import CONTRADICTION, ENTAILMENT, NEUTRAL, NO_LABEL
from simcse_tf.data.repeats import repeats_told


class NLISource:
    """Triplets of a premise, what it entails and what contradicts it.

    Each premise that has both gives one triplet, with the first of each in the file's
    order, as in the paper's data: more contradictions of a premise made no difference
    there.

    Args:
        name: string. What messages call the data.
        rows: Pairs of a premise and a hypothesis.
        texts: int64 array of shape `(n, 2)`. Hashes of premises and hypotheses.
        labels: int8 array of shape `(n,)`.

    Raises:
        UserError: If no premise has both.

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), section 4.1

    Example:

    ```python
    open_file("snli.csv").read([0])
    # [(b"A man plays.", b"Somebody plays.", b"Nobody plays.")]
    ```
    """

    columns = 3
    scored = False
    varies = False

    def __init__(self, name: str, rows: Source, texts: np.ndarray, labels: np.ndarray):
        premises = texts[:, 0]
        self._rows = rows
        self._entailed, self._contradicted = _triplets(premises, labels)
        self.skipped = rows.skipped
        if not len(self):
            raise UserError(
                f"{name}: expected premises with an entailment and a contradiction, "
                f"received {_counts(labels)}"
            )
        self.notes: Sequence[str] = (
            *rows.notes,
            f"{name}: {len(self)} triplets, the first entailment and contradiction of "
            f"each premise that has both; {repeats_told(texts[self._entailed])}; left "
            f"out: {self._left_out(labels)}",
        )

    def __len__(self) -> int:
        return len(self._entailed)

    @property
    def fingerprint(self) -> str:
        """See `simcse_tf.data.base.Source`."""
        return self._rows.fingerprint

    def read(self, indices: Sequence[int], epoch: int = 0) -> list[Row]:
        """The examples at `indices`; see `simcse_tf.data.base.Source.read`."""
        entailed, contradicted = self._entailed[indices], self._contradicted[indices]
        rows = self._rows.read([*entailed, *contradicted], epoch)
        return [
            (premise, positive, negative)
            for (premise, positive), (_, negative) in zip(
                rows[: len(entailed)], rows[len(entailed) :], strict=True
            )
        ]

    def _left_out(self, labels: np.ndarray) -> str:
        """How many rows of each label are in no triplet."""
        used = np.concatenate([self._entailed, self._contradicted])
        return _counts(np.delete(labels, used))


def _triplets(
    premises: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each premise that has both, its first entailment and first contradiction."""
    found = []
    for label in (ENTAILMENT, CONTRADICTION):
        rows = np.flatnonzero(labels == label)
        # The first row of each premise.
        texts, first = np.unique(premises[rows], return_index=True)
        found.append((texts, rows[first]))
    (entailing, entailed), (denying, contradicted) = found
    _, left, right = np.intersect1d(entailing, denying, return_indices=True)
    order = np.argsort(entailed[left])
    return entailed[left][order], contradicted[right][order]


def _counts(labels: np.ndarray) -> str:
    names = {
        ENTAILMENT: "entailments",
        CONTRADICTION: "contradictions",
        NEUTRAL: "neutral pairs",
        NO_LABEL: "pairs without a label",
    }
    counts = {name: int((labels == label).sum()) for label, name in names.items()}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
