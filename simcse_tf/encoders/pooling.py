"""From token states to one vector a sentence: the paper's five poolers."""

from collections.abc import Sequence
from typing import Any

POOLINGS = ("cls", "cls_before_pooler", "avg", "avg_top2", "avg_first_last")

# Which of the encoder's layers a pooler reads, counted as Python indexes a list of
# the transformer layers' outputs.
_LAYERS_READ = {"avg_top2": (-2, -1), "avg_first_last": (0, -1)}


def layers_read(pooling: str) -> tuple[int, ...]:
    """The transformer layers whose outputs `pool` needs, e.g. `(-1,)`.

    Args:
        pooling: string. One of `POOLINGS`.

    Raises:
        ValueError: If there is no such pooler.
    """
    if pooling not in POOLINGS:
        raise ValueError(
            f"`pooling` must be one of {', '.join(POOLINGS)}. "
            f"Received: pooling={pooling!r}"
        )
    return _LAYERS_READ.get(pooling, (-1,))


def reads_first_token(pooling: str) -> bool:
    """Whether `pool` reads nothing but each sentence's first token."""
    return pooling in ("cls", "cls_before_pooler")


def pool(states: Sequence[Any], padding_mask: Any, pooling: str) -> Any:
    """Pools token states into one vector a sentence.

    `"cls"` and `"cls_before_pooler"` both take the first token; the head that
    `"cls"` puts on it belongs to the model.

    Args:
        states: The outputs of the layers that `layers_read(pooling)` names, each
            a floating tensor of shape `(n, length, dim)`; of one that reads first
            tokens only, `(n, 1, dim)` will do.
        padding_mask: int tensor of shape `(n, length)`, 1 for a token and 0 for
            padding.
        pooling: string. One of `POOLINGS`.

    Returns:
        Tensor of shape `(n, dim)`: in the states' dtype for the two `cls` poolers,
        else float32.

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), section 6.3 and
          table 1 (first-last average).
    """
    # Here, since command lines name the poolers without the time that Keras takes.
    from keras import ops

    if reads_first_token(pooling):
        return states[-1][:, 0]
    # A sum over the tokens is where half precision loses the most.
    layer_mean = sum(ops.cast(state, "float32") for state in states) / len(states)
    mask = ops.cast(padding_mask, "float32")[:, :, None]
    return ops.sum(layer_mean * mask, axis=1) / ops.sum(mask, axis=1)
