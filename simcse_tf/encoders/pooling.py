"""From hidden states to one vector a sentence: the paper's five poolers."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Pooler(NamedTuple):
    """What a pooler reads.

    Attributes:
        layers: ints. The transformer layers whose hidden states it reads, counted as
            Python indexes a list of the layers' outputs.
        first_token: bool. Whether it reads nothing but each sentence's first token.
            Otherwise it is the mean over the tokens and the layers.
    """

    layers: tuple[int, ...] = (-1,)
    first_token: bool = False


# To add a pooler, add a line.
POOLERS = {
    "cls": Pooler(first_token=True),
    "cls_before_pooler": Pooler(first_token=True),
    "avg": Pooler(),
    "avg_top2": Pooler((-2, -1)),
    "avg_first_last": Pooler((0, -1)),
}
POOLINGS = tuple(POOLERS)


def pooler_of(pooling: str) -> Pooler:
    """The pooler of a name.

    Args:
        pooling: string. One of `POOLINGS`.

    Raises:
        ValueError: If there is no such pooler.

    Example:

    ```python
    pooler_of("avg_top2").layers  # (-2, -1)
    ```
    """
    if pooling not in POOLERS:
        raise ValueError(
            f"`pooling` must be one of {', '.join(POOLINGS)}. "
            f"Received: pooling={pooling!r}"
        )
    return POOLERS[pooling]


def layers_read(pooling: str) -> tuple[int, ...]:
    """The transformer layers whose hidden states `pool` needs, e.g. `(-1,)`.

    Args:
        pooling: string. One of `POOLINGS`.

    Raises:
        ValueError: If there is no such pooler.

    Example:

    ```python
    layers_read("avg_first_last")  # (0, -1)
    ```
    """
    return pooler_of(pooling).layers


def pool(hidden_states: Sequence[Any], padding_mask: Any, pooling: str) -> Any:
    """Pools hidden states into one vector a sentence.

    `"cls"` and `"cls_before_pooler"` both take the first token. The head that
    `"cls"` puts on it belongs to the model.

    Args:
        hidden_states: The outputs of the layers that `layers_read(pooling)` names,
            each a floating tensor of shape `(n, length, dim)`. A pooler that reads
            first tokens only also takes `(n, 1, dim)`.
        padding_mask: int tensor of shape `(n, length)`, 1 for a token and 0 for
            padding.
        pooling: string. One of `POOLINGS`.

    Returns:
        Tensor of shape `(n, dim)`: in the dtype of the hidden states for the two
        `cls` poolers, else float32.

    Raises:
        ValueError: If there is no such pooler.

    Example:

    ```python
    pool([np.ones((2, 5, 8), "float32")], np.ones((2, 5), "int32"), "avg").shape
    # (2, 8)
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), section 6.3 and
          table 1 (first-last average).
    """
    # Keras takes seconds to import, and command lines only name the poolers.
    from keras import ops

    if pooler_of(pooling).first_token:
        return hidden_states[-1][:, 0]
    # Half precision loses the most in a sum over the tokens, hence float32.
    layers = [ops.cast(each, "float32") for each in hidden_states]
    layer_mean = sum(layers) / len(layers)
    mask = ops.cast(padding_mask, "float32")[:, :, None]
    return ops.sum(layer_mean * mask, axis=1) / ops.sum(mask, axis=1)
