"""The scores of a Unigram model's pieces."""

import math
from collections.abc import Sequence

from simcse_tf.core.errors import UserError


def checked_scores(scores: Sequence[float], most: int, unknown: int) -> list[float]:
    """Checks the scores of a vocabulary.

    Args:
        scores: Sequence of float.
        most: int. The size of the vocabulary.
        unknown: int. The id of the unknown token.

    Returns:
        list of float.

    Raises:
        UserError: If there are too many or too few, or one is no logarithm.

    Example:

    ```python
    checked_scores([0.0, -1.5], most=2, unknown=0)  # [0.0, -1.5]
    ```
    """
    checked = [*map(float, scores)]
    if not unknown < len(checked) <= most:
        raise UserError(
            f"scores: expected one for each of the {most} tokens, or for the first of "
            f"them with <unk>; received {len(checked)}"
        )
    if not all(map(math.isfinite, checked)) or min(checked) > 0:
        raise UserError(
            "scores: expected logarithms of probabilities, which are finite and not "
            f"all above 0; received {min(checked)} to {max(checked)}"
        )
    return checked


def exact_sums(scores: Sequence[float]) -> float:
    """How many scores can be added, whichever they are, before a sum is rounded.

    Args:
        scores: Sequence of float, not all 0.

    Returns:
        float. 0 if a sum of two may be rounded.

    Example:

    ```python
    exact_sums([-0.5, -2.0])  # 2.0**51
    ```
    """
    unit = max(score.as_integer_ratio()[1] for score in scores)
    return (2**53 // unit) / max(map(abs, scores))
