"""Byte-level BPE as a model that SentencePiece's BPE runs.

Two things differ. SentencePiece joins two neighbours if they give a known *piece*, and BPE
if they are a known *pair*. And SentencePiece reads characters, where byte-level BPE reads
bytes.

Pairs and pieces come to the same if the pieces are the tokens that BPE makes of their own
text, each with the rank of its last merge. As long as no merge has crossed the ends of a
stretch of text, those within it are the merges of that stretch alone, in the same order:
each step takes the first pair of the lowest rank. So if the two neighbours of a stretch
are a pair, BPE makes one token of the stretch alone, and that pair is its last merge; if
they are none, it does not, and the token is no piece.

The bytes become characters in SentencePiece's normalizer, which knows what to put in
place of a string of bytes.
"""

import struct
from collections.abc import Iterable, Iterator

from simcse_tf.tokenizers.sentencepiece_model_pb2 import ModelProto, TrainerSpec

# No byte's character, so that no token has it.
UNKNOWN = "\u2581"

_NOT_A_PAIR = 1 << 62
# Units of the normalizer's trie. By exclusive or with a byte, the root leads to one of
# the second 256 units, and that unit to the same place among the third.
_CHILDREN, _VALUES = 256, 512
_IS_VALUE = 1 << 31
_HAS_VALUE = 1 << 8


def byte_characters() -> dict[int, str]:
    """The character that stands for each byte in the tokens of byte-level BPE.

    Printable Latin characters stand for themselves, and the rest are shifted to where
    characters are printable, in their order.

    Returns:
        dict from int to string of length 1, of 256 entries.

    Example:

    ```python
    byte_characters()[ord(" ")]  # "Ġ"
    ```
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    shifted = {byte: chr(256 + index) for index, byte in enumerate(rest)}
    return {byte: chr(byte) for byte in printable} | shifted


def sentencepiece_model(
    tokens: Iterable[str], merges: Iterable[tuple[str, str]]
) -> tuple[bytes, list[str]]:
    """Makes SentencePiece's model of a byte-level BPE.

    A byte whose character is no token vanishes from the text, as in the reference.

    Args:
        tokens: Iterable of string. Tokens of one character stand for the bytes.
        merges: Iterable of pairs of strings. What is merged, the first pair first. Of
            a pair that is there twice, the second counts, as in the reference.

    Returns:
        The serialized model, and the token of each of its ids, `UNKNOWN` first.

    Example:

    ```python
    model, pieces = sentencepiece_model(["a", "b", "ab"], [("a", "b")])
    tf_text.SentencepieceTokenizer(model).tokenize(["abba"])  # [[3, 2, 1]]
    pieces  # ["▁", "a", "b", "ab"]
    ```
    """
    single = set(tokens)
    alphabet = {
        byte: character
        for byte, character in byte_characters().items()
        if character in single
    }
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    scores = dict.fromkeys(alphabet.values(), 0)
    scores |= {token: -rank for token, rank in _merged(ranks, set(scores))}

    model = ModelProto()
    model.trainer_spec.model_type = TrainerSpec.BPE
    model.normalizer_spec.precompiled_charsmap = _charsmap(alphabet)
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.escape_whitespaces = False
    model.pieces.add(piece=UNKNOWN, type=ModelProto.SentencePiece.UNKNOWN)
    for piece, score in scores.items():
        model.pieces.add(piece=piece, score=score)
    return model.SerializeToString(), [UNKNOWN, *scores]


def _merged(
    ranks: dict[tuple[str, str], int], alphabet: set[str]
) -> Iterator[tuple[str, int]]:
    """The tokens that BPE makes of their own text, and the rank of the last merge."""
    for token in dict.fromkeys(left + right for left, right in ranks):
        if alphabet.issuperset(token):
            rank = _last_rank(token, ranks)
            if rank != _NOT_A_PAIR:
                yield token, rank


def _last_rank(text: str, ranks: dict[tuple[str, str], int]) -> int:
    """The rank of the merge that makes one token of a text, if there is one."""
    parts = list(text)
    of_pairs = [
        ranks.get((left, right), _NOT_A_PAIR)
        for left, right in zip(parts, parts[1:], strict=False)
    ]
    while (lowest := min(of_pairs)) != _NOT_A_PAIR and len(of_pairs) > 1:
        first = of_pairs.index(lowest)
        parts[first : first + 2] = [parts[first] + parts[first + 1]]
        del of_pairs[first]
        for left in (first - 1, first):
            if 0 <= left < len(of_pairs):
                pair = parts[left], parts[left + 1]
                of_pairs[left] = ranks.get(pair, _NOT_A_PAIR)
    return lowest


def _charsmap(alphabet: dict[int, str]) -> bytes:
    """A normalizer that puts a character, or nothing, in the place of each byte.

    It is a double-array trie, here over keys of one byte, and the replacements.
    """
    units = [0] * (_VALUES + 256)
    units[0] = _offset(_CHILDREN)
    replacements = b""
    for byte in range(256):
        child = _CHILDREN ^ byte
        units[child] = byte | _HAS_VALUE | _offset(_CHILDREN ^ _VALUES)
        units[_VALUES ^ byte] = len(replacements) | _IS_VALUE
        replacements += alphabet.get(byte, "").encode() + b"\0"
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + replacements


def _offset(difference: int) -> int:
    # Stored without its lowest 8 bits, which bit 9 says.
    return difference >> 8 << 10 | 1 << 9
