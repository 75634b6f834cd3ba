"""Whether vocabulary, merges and table of embeddings belong together."""

from pathlib import Path

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import MAX_BYTES
from simcse_tf.core.regular_files import is_there, read_file
from simcse_tf.tokenizers.base import Tokenizer
from simcse_tf.tokenizers.byte_level_bpe import RobertaTokenizer

# Tables are padded to multiples of up to 128. A small vocabulary has less to spare.
_SPARE = 128
_PADDED = 8
_SPARE_SHARE = 4
# Special tokens come from no merge.
_SPECIAL = 16


def check_rows(
    tokenizer: Tokenizer,
    rows: int,
    source: str,
    file: Path | None = None,
    only_padded: bool = False,
) -> tuple[str, ...]:
    """Refuses a vocabulary that was cut, or another model's.

    A table may have some rows more than the vocabulary has tokens, because it was
    padded. Of fewer than 128 it cannot be told whether tokens are missing: the notes
    say how many there are.

    Args:
        tokenizer: The tokenizer.
        rows: int. How many embeddings the encoder has.
        source: string. What a message calls the model.
        file: Optional path. A vocabulary of one token a line, if there may be one.
        only_padded: bool. Whether rows beyond the vocabulary make a multiple of 8.
            Defaults to `False`.

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
    odd = only_padded and tokens < rows and rows % _PADDED
    if tokens > rows or odd or _lacks(rows - tokens, rows):
        raise UserError(
            f"{source}: the tokenizer has {tokens} tokens, and the encoder {rows} "
            f"embeddings: the vocabulary is {'cut' if tokens < rows else 'another one'}"
        )
    if tokens < rows and file is not None and _ends_within_a_line(file):
        raise UserError(
            f"{file} ends within a line, and has {tokens} tokens for {rows} "
            "embeddings: it is cut"
        )
    if isinstance(tokenizer, RobertaTokenizer):
        _check_merges(tokenizer, source)
    return (f"{tokens} tokens for {rows} embeddings",) if tokens < rows else ()


def _ends_within_a_line(path: Path) -> bool:
    return is_there(path) and not read_file(path, MAX_BYTES).endswith(b"\n")


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
