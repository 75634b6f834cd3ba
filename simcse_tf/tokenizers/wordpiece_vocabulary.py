"""BERT's vocabulary, and the file that holds it."""

import os
from pathlib import Path

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.added_tokens import WHITE_SPACE
from simcse_tf.tokenizers.vocabulary import is_unicode


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    """Reads a `vocab.txt`, one token a line, as the `tokenizers` package reads it.

    Args:
        path: The file to read.

    Returns:
        list of string. A token's position is its id.

    Raises:
        UserError: If the file cannot be read, or is not UTF-8.

    Example:

    ```python
    read_vocabulary("vocab.txt")[:2]  # ["[PAD]", "[unused0]"]
    ```
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(
            f"cannot read the vocabulary {path}: {error.strerror}"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"vocabulary {path} is not UTF-8 (byte {error.start}); expected a "
            "vocab.txt, one token a line"
        ) from None
    # `str.splitlines` would also split at U+2028 and the like, and `str.rstrip` trims
    # the separators U+001C to U+001F, which are no white space to the reference.
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.rstrip(WHITE_SPACE) for line in lines]


def write_vocabulary(vocabulary: list[str], path: str | os.PathLike[str]) -> None:
    """Writes a `vocab.txt` that reads back the same.

    Args:
        vocabulary: list of string. The tokens.
        path: The file to write.

    Raises:
        UserError: If a token cannot stand on a line of its own.

    Example:

    ```python
    write_vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "play"], "vocab.txt")
    ```
    """
    for index, token in enumerate(vocabulary):
        if "\n" in token or token != token.rstrip(WHITE_SPACE):
            raise UserError(
                f"cannot save token {index} of the vocabulary, {token!r}: a "
                "vocab.txt holds no line break and no space at a token's end"
            )
    text = "".join(token + "\n" for token in vocabulary)
    Path(path).write_bytes(text.encode("utf-8"))


def unique_ids(vocabulary: list[str], source: str) -> dict[str, int]:
    """The id of each token.

    Args:
        vocabulary: list of string. The tokens.
        source: string. What a message calls the vocabulary.

    Returns:
        dict of string to int.

    Raises:
        UserError: If a token is not valid Unicode, or is there twice.

    Example:

    ```python
    unique_ids(["[PAD]", "[UNK]"], "vocab.txt")  # {"[PAD]": 0, "[UNK]": 1}
    ```
    """
    ids: dict[str, int] = {}
    for index, token in enumerate(vocabulary):
        if not is_unicode(token):
            raise UserError(
                f"{source}: expected a string of valid Unicode on line {index + 1}; "
                f"received {token!r}"
            )
        if token and token in ids:
            raise UserError(
                f"{source}: the token {token!r} is there twice, on lines "
                f"{ids[token] + 1} and {index + 1}; remove one"
            )
        ids[token] = index
    return ids
