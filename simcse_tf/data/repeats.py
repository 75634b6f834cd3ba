"""How many rows repeat a text: in a batch, each repeat is a false negative."""

import numpy as np


def repeats_told(texts: np.ndarray) -> str:
    """How many rows repeat a text of an earlier one, as a run says it at its start.

    Args:
        texts: int64 array of shape `(n, columns)`. Hashes of the sentences, or of the
            anchors and positives.

    Example:

    ```python
    repeats_told(np.array([[1, 2], [1, 3]]))  # "1 repeats an earlier anchor"
    ```
    """
    names = ["sentence"] if texts.shape[1] == 1 else ["anchor", "positive"]
    counts = [_repeats(column) for column in texts.T]
    told = [
        f"{count} {'repeats' if count == 1 else 'repeat'} an earlier {name}"
        for count, name in zip(counts, names, strict=True)
        if count
    ]
    return ", ".join(told) or "no repeats"


def _repeats(texts: np.ndarray) -> int:
    ordered = np.sort(texts)
    return int((ordered[1:] == ordered[:-1]).sum())
