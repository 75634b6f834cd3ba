"""XLM-RoBERTa's vocabulary in the file of a SentencePiece model.

fairseq, and everybody after it, counts the ids another way than the file: `<s>`,
`<pad>`, `</s>` and `<unk>` come first, the file's pieces from the fourth on follow, and
`<mask>` is the last. What a user has added behind it does not stand in the file.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.sentencepiece_model_pb2 import ModelProto, TrainerSpec

FIRST_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
LAST_TOKEN = "<mask>"

_Piece = ModelProto.SentencePiece
_FIRST_PIECES = (
    ("<unk>", _Piece.UNKNOWN),
    ("<s>", _Piece.CONTROL),
    ("</s>", _Piece.CONTROL),
)
_SPECIAL_SCORE = 0.0


class UnigramModel(NamedTuple):
    """A Unigram model, its ids counted as in XLM-RoBERTa.

    Attributes:
        vocabulary: list of string. The tokens; a token's position is its id.
        scores: list of float. Their scores.
        charsmap: bytes. The precompiled normalizer; empty for none.
    """

    vocabulary: list[str]
    scores: list[float]
    charsmap: bytes


def read_model(file: bytes) -> UnigramModel:
    """Reads the file of a SentencePiece model.

    Args:
        file: bytes. What stands in `sentencepiece.bpe.model`.

    Returns:
        `UnigramModel`.

    Raises:
        UserError: If the bytes are no such model, or one that XLM-RoBERTa cannot have:
            of another type than Unigram, with bytes as fallback, with other special
            tokens, or with another treatment of spaces.

    Example:

    ```python
    read_model(Path("sentencepiece.bpe.model").read_bytes()).vocabulary[:2]
    # ["<s>", "<pad>"]
    ```
    """
    try:
        model = ModelProto.FromString(file)
    except DecodeError:
        raise UserError(
            "SentencePiece model: expected the bytes of such a file; received others"
        ) from None
    _check(model)
    pieces = model.pieces[len(_FIRST_PIECES) :]
    return UnigramModel(
        [*FIRST_TOKENS, *(piece.piece for piece in pieces), LAST_TOKEN],
        file_scores([piece.score for piece in pieces]),
        model.normalizer_spec.precompiled_charsmap,
    )


def write_model(model: UnigramModel) -> bytes:
    """Makes the file of a SentencePiece model.

    Args:
        model: `UnigramModel`. Scores are rounded to float32. Those of the special
            tokens are left out, and so are the tokens behind `<mask>`.

    Returns:
        bytes.

    Raises:
        UserError: If the vocabulary lacks the special tokens in their places, or a
            token between them has no score.

    Example:

    ```python
    read_model(write_model(model)) == model  # True, for scores in float32
    ```
    """
    tokens = model.vocabulary[: len(model.vocabulary) - len(tail_of(model.vocabulary))]
    first, last = len(FIRST_TOKENS), len(tokens) - 1
    if tuple(tokens[:first]) != FIRST_TOKENS or tokens[first:][-1:] != [LAST_TOKEN]:
        raise UserError(
            "vocabulary: a SentencePiece model of XLM-RoBERTa begins with "
            f"{', '.join(FIRST_TOKENS)} and ends with {LAST_TOKEN}; received "
            f"{tokens[:first]} and {tokens[-1:]}"
        )
    if len(model.scores) < last:
        raise UserError(
            "scores: a SentencePiece model of XLM-RoBERTa has one for each of the "
            f"{last} tokens before {LAST_TOKEN}; received {len(model.scores)}"
        )
    file = ModelProto()
    file.trainer_spec.model_type = TrainerSpec.UNIGRAM
    file.trainer_spec.vocab_size = last - first + len(_FIRST_PIECES)
    file.normalizer_spec.precompiled_charsmap = model.charsmap
    file.pieces.extend(
        _Piece(piece=piece, score=_SPECIAL_SCORE, type=kind)
        for piece, kind in _FIRST_PIECES
    )
    file.pieces.extend(
        _Piece(piece=token, score=score)
        for token, score in zip(
            tokens[first:last], model.scores[first:last], strict=True
        )
    )
    return file.SerializeToString()


def tail_of(vocabulary: list[str]) -> list[str]:
    """The tokens behind `<mask>`, which the file of a model does not hold.

    Args:
        vocabulary: list of string. The tokens.

    Returns:
        list of string.

    Example:

    ```python
    tail_of(["<s>", "<pad>", "</s>", "<unk>", "▁a", "<mask>", "mine"])  # ["mine"]
    ```
    """
    if LAST_TOKEN not in vocabulary:
        return []
    return vocabulary[vocabulary.index(LAST_TOKEN) + 1 :]


def file_scores(scores: Sequence[float]) -> list[float]:
    """The scores of a whole vocabulary that a file gives back.

    Args:
        scores: Sequence of float. Those of the pieces between the special tokens.

    Returns:
        list of float.

    Example:

    ```python
    file_scores([-1.0])  # [0.0, 0.0, 0.0, 0.0, -1.0, 0.0]
    ```
    """
    pieces = np.array(scores, np.float32).tolist()
    return [_SPECIAL_SCORE] * len(FIRST_TOKENS) + pieces + [_SPECIAL_SCORE]


def _check(model: ModelProto) -> None:
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    # They stand behind the pieces: a file that was cut there would be another model.
    if not model.HasField("trainer_spec") or not model.HasField("normalizer_spec"):
        raise UserError("SentencePiece model: it ends too early; copy the file again")
    for name, received, expected in (
        ("model_type", trainer.model_type, TrainerSpec.UNIGRAM),
        ("byte_fallback", trainer.byte_fallback, False),
        ("treat_whitespace_as_suffix", trainer.treat_whitespace_as_suffix, False),
        ("add_dummy_prefix", normalizer.add_dummy_prefix, True),
        ("remove_extra_whitespaces", normalizer.remove_extra_whitespaces, True),
        ("escape_whitespaces", normalizer.escape_whitespaces, True),
    ):
        if received != expected:
            raise UserError(
                f"SentencePiece model: {name} is {received}; expected {expected}, "
                "nothing else is implemented for XLM-RoBERTa"
            )
    first = [(piece.piece, piece.type) for piece in model.pieces[: len(_FIRST_PIECES)]]
    if first != [*_FIRST_PIECES]:
        raise UserError(
            "SentencePiece model: expected <unk>, <s> and </s> as its first pieces; "
            f"received {[piece for piece, _ in first]}"
        )
    for piece in model.pieces[len(_FIRST_PIECES) :]:
        if piece.type != _Piece.NORMAL:
            raise UserError(
                f"SentencePiece model: the piece {piece.piece!r} is of type "
                f"{_Piece.Type.Name(piece.type)}; expected NORMAL"
            )
