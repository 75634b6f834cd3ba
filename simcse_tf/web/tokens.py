"""What a model reads of a text: its tokens, and where it stops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE

# So many tokens of a text are counted, in order to say how many are not read.
COUNTED = 50_000


class Token(NamedTuple):
    """One token.

    Attributes:
        text: string. As it stands in the vocabulary.
        id: int. Its place there.
        kind: string. `"special"` for one that stands for no text, `"unknown"` for the
            one that stands for what the vocabulary lacks, else `"text"`.

    Example:

    ```python
    Token("[CLS]", 101, "special")
    ```
    """

    text: str
    id: int
    kind: str


class Reading(NamedTuple):
    """The tokens that a model reads of a text.

    Attributes:
        tokens: list of `Token`.
        left_out: int. How many more the text has, which the model does not read.
        is_counted: bool. Whether these are all; else the text has more than were
            counted.

    Example:

    ```python
    reading_of_text(model, "A man plays.").left_out  # 0
    ```
    """

    tokens: list[Token]
    left_out: int
    is_counted: bool

    def as_json(self) -> dict[str, Any]:
        """The reading in JSON's types."""
        tokens = [token._asdict() for token in self.tokens]
        return {**self._asdict(), "tokens": tokens}


def reading_of_text(model: SimCSE, text: str) -> Reading:
    """What a model reads of a text.

    Args:
        model: A `simcse_tf.SimCSE`.
        text: string.

    Example:

    ```python
    [token.text for token in reading_of_text(model, "Hello").tokens]
    # ["[CLS]", "hello", "[SEP]"]
    ```
    """
    raw = [text.encode("utf-8", "surrogatepass")]
    ids, _ = model.token_ids(raw, model.max_length)
    counted = len(ids)
    if counted == model.max_length:
        counted = len(model.token_ids(raw, COUNTED)[0])
    tokenizer = model.tokenizer
    special = {*tokenizer.special_token_ids, tokenizer.mask_token_id}
    unknown = getattr(tokenizer, "unk_token_id", None)
    tokens = [
        Token(
            tokenizer.vocabulary[id],
            id,
            "special" if id in special else "unknown" if id == unknown else "text",
        )
        for id in ids.tolist()
    ]
    return Reading(tokens, max(0, counted - len(ids)), counted < COUNTED)
