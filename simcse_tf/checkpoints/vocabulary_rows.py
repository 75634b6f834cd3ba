"""Whether vocabulary, merges and table of embeddings belong together."""

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.base import Tokenizer
from simcse_tf.tokenizers.byte_level_bpe import RobertaTokenizer

# Tables are padded to multiples of up to 128. A small vocabulary has less to spare.
_SPARE = 128
_SPARE_SHARE = 4
# Special tokens come from no merge.
_SPECIAL = 16


def check_rows(tokenizer: Tokenizer, rows: int, source: str) -> tuple[str, ...]:
    """Refuses a vocabulary that was cut, or another model's.

    A table may have some rows more than the vocabulary has tokens, because it was
    padded. Of fewer than 128 it cannot be told whether tokens are missing: the notes
    say how many there are.

    Args:
        tokenizer: The tokenizer.
        rows: int. How many embeddings the encoder has.
        source: string. What a message calls the model.

    Returns:
        Notes for how the model was read; none where the numbers are equal.

    Raises:
        UserError: If they do not fit, or a byte-level BPE lacks merges.

    Example:

    ```python
    check_rows(tokenizer, 30528, "models/mine")
    # ("30522 tokens for 30528 embeddings",)
    ```
    """
    tokens = tokenizer.vocabulary_size
    if tokens > rows or _lacks(rows - tokens, rows):
        raise UserError(
            f"{source}: the tokenizer has {tokens} tokens, and the encoder {rows} "
            f"embeddings: the vocabulary is {'cut' if tokens < rows else 'another one'}"
        )
    if isinstance(tokenizer, RobertaTokenizer):
        _check_merges(tokenizer, source)
    return (f"{tokens} tokens for {rows} embeddings",) if tokens < rows else ()


def _lacks(missing: int, of: int) -> bool:
    return missing >= _SPARE or missing * _SPARE_SHARE > of


def _check_merges(tokenizer: RobertaTokenizer, source: str) -> None:
    """Each token of several characters is what a merge gives, but for special ones."""
    given = {merge.replace(" ", "", 1) for merge in tokenizer.merges}
    given |= {token.content for token in tokenizer.added_tokens}
    longer = [token for token in tokenizer.vocabulary if len(token) > 1]
    missing = sum(token not in given for token in longer)
    if _lacks(missing, max(len(longer), _SPECIAL * _SPARE_SHARE)):
        raise UserError(
            f"{source}: no merge gives {missing} of the tokenizer's {len(longer)} "
            "tokens: its merges are cut, or another model's"
        )
