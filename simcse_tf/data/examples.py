"""One row of a training file: what its values say."""

import math
from typing import Any, NamedTuple

from simcse_tf.core.json_files import shown

# As SNLI and MNLI are published for training. Where the annotators did not agree, there
# is no label.
ENTAILMENT, NEUTRAL, CONTRADICTION, NO_LABEL = 0, 1, 2, -1
_LABELS = {
    "entailment": ENTAILMENT,
    "neutral": NEUTRAL,
    "contradiction": CONTRADICTION,
    "-": NO_LABEL,
    "": NO_LABEL,
    **{str(label): label for label in (ENTAILMENT, NEUTRAL, CONTRADICTION, NO_LABEL)},
}


class Example(NamedTuple):
    """What one row says.

    Attributes:
        texts: The texts that every row has.
        negatives: Its hard negatives, those that are not blank.
        score: string. Empty if the row has none.
        label: int. One of `ENTAILMENT`, `NEUTRAL`, `CONTRADICTION` and `NO_LABEL`.

    Example:

    ```python
    Example(("A man plays.", "A man is playing."), ("Nobody plays.",))
    ```
    """

    texts: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    score: str = ""
    label: int = NO_LABEL


def texts_of(name: str, value: Any) -> list[str]:
    """The texts of one or a list of hard negatives that are not blank.

    Args:
        name: string. The column, for messages.
        value: The value.

    Raises:
        ValueError: If it is something else.

    Example:

    ```python
    texts_of("hard_neg", ["A dog.", ""])  # ["A dog."]
    ```
    """
    values = value if isinstance(value, list) else (value,)
    return [text for value in values if (text := text_of(name, value)).strip()]


def text_of(name: str, value: Any) -> str:
    """A text; empty for `None`.

    Args:
        name: string. The column, for messages.
        value: The value.

    Raises:
        ValueError: If it is something else.

    Example:

    ```python
    text_of("sent0", None)  # ""
    ```
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise ValueError(f"expected a string in {name}, received {shown(value)}")


def score_of(name: str, value: Any) -> str:
    """A finite number, as Python writes it; empty if there is none.

    Args:
        name: string. The column, for messages.
        value: The value.

    Raises:
        ValueError: If it is something else.

    Example:

    ```python
    score_of("score", "4.20")  # "4.2"
    ```
    """
    text = value.strip() if isinstance(value, str) else value
    if text is None or text == "":
        return ""
    try:
        # Python's numbers may also have underscores and truth values.
        if isinstance(text, bool) or "_" in str(text):
            raise ValueError
        number = float(text)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number in {name}, received {shown(value)}")
    return repr(number)


def label_of(name: str, value: Any) -> int:
    """The label of an NLI pair, from its name or its number.

    Args:
        name: string. The column, for messages.
        value: The value.

    Raises:
        ValueError: If it is something else.

    Example:

    ```python
    label_of("label", "contradiction")  # 2
    ```
    """
    whole = isinstance(value, float) and value.is_integer()
    text = str(int(value) if whole else "" if value is None else value)
    label = _LABELS.get(text.strip().lower())
    if label is None or isinstance(value, bool):
        raise ValueError(
            f"expected entailment, neutral or contradiction, 0, 1 or 2 in {name}, "
            f"received {shown(value)}"
        )
    return label
