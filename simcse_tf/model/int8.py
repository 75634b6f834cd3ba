"""A model whose matrix products are in int8: how it is made, and how near it stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.encoders.base import Features, longest_input
from simcse_tf.encoders.int8 import Int8Encoder
from simcse_tf.model.compilation import on_accelerator

if TYPE_CHECKING:
    from simcse_tf.model.sentence_encoder import SentenceEncoder

INT8 = "int8"

# Rows and their length. Ranges are measured on tokens drawn at random, which belong to
# no language and follow from the vocabulary alone: a model has one form in int8,
# whatever it is to embed.
_MEASURED = ((64, 4), (32, 32), (4, 256))
_COMPARED = ((64, 16),)
# MiniLM's embeddings of sentences have 0.9947 and 0.976, and lose nothing on STS.
_LEAST_MEAN = 0.98
_LEAST = 0.9


class Agreement(NamedTuple):
    """The cosines of embeddings in int8 with those in float32, of random tokens.

    Attributes:
        mean: float.
        least: float.
    """

    mean: float
    least: float


def check_int8() -> None:
    """Raises a UserError where int8 would not be computed.

    Example:

    ```python
    check_int8()  # on a machine without a GPU
    ```
    """
    if on_accelerator():
        raise UserError(
            "int8 is for CPUs: expected none of a GPU or TPU to be visible (set "
            "CUDA_VISIBLE_DEVICES= to hide GPUs), or another precision"
        )


def use_int8(model: SentenceEncoder) -> Agreement:
    """Makes a model in float32 compute its matrix products in int8 from now on.

    Weights that change later are not noticed.

    Args:
        model: The model. It has no static shapes.

    Returns:
        `Agreement`.

    Raises:
        UserError: If its backbone is of no family that can, or its embeddings would be
            too far from those in float32.

    Example:

    ```python
    use_int8(model).mean  # 0.995
    ```
    """
    embedder = model.embedder
    compared = _probes(model, _COMPARED, seed=1)
    exact = [embedder.embed(each).numpy() for each in compared]
    embedder.encoder = Int8Encoder(embedder.encoder, _probes(model, _MEASURED, seed=0))
    near = [embedder.embed(each).numpy() for each in compared]
    cosines = (np.concatenate(exact) * np.concatenate(near)).sum(axis=1)
    agreement = Agreement(float(cosines.mean()), float(cosines.min()))
    if not (agreement.mean >= _LEAST_MEAN and agreement.least >= _LEAST):
        raise UserError(
            f"int8: expected embeddings with a cosine of at least {_LEAST_MEAN} with "
            f"those in float32 on average, and {_LEAST} each; this model's have "
            f"{agreement.mean:.4f} and {agreement.least:.4f}: take bfloat16"
        )
    return agreement


def _probes(
    model: SentenceEncoder, shapes: tuple[tuple[int, int], ...], seed: int
) -> list[Features]:
    """Batches of random tokens, between those that begin and end a text."""
    tokenizer, random = model.tokenizer, np.random.default_rng(seed)
    ordinary = np.setdiff1d(
        np.arange(tokenizer.vocabulary_size), tokenizer.special_token_ids
    )

    def features(rows: int, length: int) -> Any:
        length = min(length, longest_input(model.backbone))
        token_ids = random.choice(ordinary, (rows, length)).astype(np.int32)
        token_ids[:, 0] = tokenizer.cls_token_id
        token_ids[:, -1] = tokenizer.sep_token_id
        return model.features(tf.constant(token_ids), tf.fill([rows], length))

    return [features(*shape) for shape in shapes]
