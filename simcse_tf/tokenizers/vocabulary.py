"""Checks of vocabularies."""

from typing import Any

from simcse_tf.core.errors import UserError


def unique_ids(vocabulary: list[str]) -> dict[str, int]:
    """The id of each token.

    Args:
        vocabulary: list of string. The tokens.

    Returns:
        dict of string to int.

    Raises:
        UserError: If a token is not valid Unicode, or is there twice.

    Example:

    ```python
    unique_ids(["<s>", "<pad>"])  # {"<s>": 0, "<pad>": 1}
    ```
    """
    ids: dict[str, int] = {}
    for index, token in enumerate(vocabulary):
        if not is_unicode(token):
            raise UserError(
                f"vocabulary: expected a string of valid Unicode at {index}; "
                f"received {token!r}"
            )
        if token in ids:
            raise UserError(
                f"vocabulary: the token {token!r} is there twice, at {ids[token]} and "
                f"{index}; remove one"
            )
        ids[token] = index
    return ids


def required_id(token: str, ids: dict[str, int], model: str) -> int:
    """The id of a token that a model cannot do without.

    Args:
        token: string. The token.
        ids: dict of string to int. What `unique_ids` gave.
        model: string. What a message calls the model.

    Returns:
        int.

    Raises:
        UserError: If there is no such token.

    Example:

    ```python
    required_id("<pad>", {"<s>": 0, "<pad>": 1}, "RoBERTa")  # 1
    ```
    """
    if token not in ids:
        raise UserError(f"vocabulary: no {token} in it; {model} needs that token")
    return ids[token]


def is_unicode(token: Any) -> bool:
    """Whether a token is a string that UTF-8 can hold.

    Example:

    ```python
    is_unicode("\\ud800")  # False: half a surrogate pair
    ```
    """
    return isinstance(token, str) and not any(0xD800 <= ord(c) < 0xE000 for c in token)
