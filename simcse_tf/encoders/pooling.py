"""From hidden states to one vector a sentence."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from simcse_tf.core.errors import UserError

Tokens = Literal["first", "last", "mean", "mean_sqrt_len", "weighted_mean", "max"]


class Pooler(NamedTuple):
    """What a pooler reads.

    Attributes:
        layers: ints. The transformer layers whose hidden states it reads, counted as
            Python indexes a list of the layers' outputs. It takes their mean.
        tokens: string. What it makes of each sentence's tokens.
    """

    layers: tuple[int, ...] = (-1,)
    tokens: Tokens = "mean"


# To add a pooler, add a line.
POOLERS = {
    "cls": Pooler(tokens="first"),
    "cls_before_pooler": Pooler(tokens="first"),
    "avg": Pooler(),
    "avg_top2": Pooler((-2, -1)),
    "avg_first_last": Pooler((0, -1)),
    "max": Pooler(tokens="max"),
    "mean_sqrt_len": Pooler(tokens="mean_sqrt_len"),
    "weightedmean": Pooler(tokens="weighted_mean"),
    "lasttoken": Pooler(tokens="last"),
}
POOLINGS = tuple(POOLERS)
# The pooler that brings a head of its own.
WITH_HEAD = "cls"
JOINT = "+"


def poolers_of(pooling: str) -> tuple[Pooler, ...]:
    """The poolers of a name, whose vectors are concatenated.

    Args:
        pooling: string. One of `POOLINGS`, or several joined by `+`, such as
            `"cls_before_pooler+avg"`.

    Raises:
        UserError: If there is no such pooler, or `"cls"` is joined with another.

    Example:

    ```python
    [pooler.layers for pooler in poolers_of("max+avg_top2")]  # [(-1,), (-2, -1)]
    ```
    """
    names = pooling.split(JOINT)
    if unknown := [name for name in names if name not in POOLERS]:
        raise UserError(
            f"`pooling` must be one of {', '.join(POOLINGS)}, or several joined by "
            f"{JOINT}. Received: {unknown[0]!r} in pooling={pooling!r}"
        )
    if WITH_HEAD in names and len(names) > 1:
        raise UserError(
            f"`pooling` {WITH_HEAD} has a head of its own and stands alone: take "
            f"cls_before_pooler in a combination. Received: pooling={pooling!r}"
        )
    return tuple(POOLERS[name] for name in names)


def layers_read(pooling: str) -> tuple[int, ...]:
    """The transformer layers whose hidden states `pool` needs, e.g. `(-1,)`.

    Args:
        pooling: string. See `poolers_of`.

    Raises:
        UserError: See `poolers_of`.

    Example:

    ```python
    layers_read("avg_first_last")  # (0, -1)
    layers_read("max+avg_top2")  # (-1, -2)
    ```
    """
    layers = [layer for pooler in poolers_of(pooling) for layer in pooler.layers]
    return tuple(dict.fromkeys(layers))


def reads_first_token(pooling: str) -> bool:
    """Whether a pooling reads nothing but each sentence's first token.

    Example:

    ```python
    reads_first_token("cls")  # True
    ```
    """
    return all(pooler.tokens == "first" for pooler in poolers_of(pooling))


def pool(hidden_states: Sequence[Any], padding_mask: Any, pooling: str) -> Any:
    """Pools hidden states into one vector a sentence.

    `"cls"` and `"cls_before_pooler"` both take the first token. The head that
    `"cls"` puts on it belongs to the model.

    Args:
        hidden_states: The outputs of the layers that `layers_read(pooling)` names,
            each a floating tensor of shape `(n, length, dim)`. A pooling that reads
            first tokens only also takes `(n, 1, dim)`.
        padding_mask: int tensor of shape `(n, length)`, 1 for a token and 0 for
            padding, which follows the tokens.
        pooling: string. See `poolers_of`.

    Returns:
        Tensor of shape `(n, dim)`, or as many times `dim` as there are poolers: in
        the dtype of the hidden states for one that reads first tokens, else float32.

    Raises:
        UserError: See `poolers_of`.

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

    by_layer = dict(zip(layers_read(pooling), hidden_states, strict=True))
    vectors = [
        _pool([by_layer[layer] for layer in pooler.layers], padding_mask, pooler.tokens)
        for pooler in poolers_of(pooling)
    ]
    if len(vectors) == 1:
        return vectors[0]
    return ops.concatenate([ops.cast(each, "float32") for each in vectors], axis=1)


def _pool(layers: Sequence[Any], padding_mask: Any, tokens: Tokens) -> Any:
    from keras import ops

    if tokens == "first":
        return layers[-1][:, 0]
    # Half precision loses the most in a sum over the tokens, hence float32.
    layers = [ops.cast(each, "float32") for each in layers]
    states = sum(layers) / len(layers)
    mask = ops.cast(padding_mask, "float32")[:, :, None]
    if tokens == "max":
        return ops.max(ops.where(mask > 0, states, -float("inf")), axis=1)
    count = ops.sum(mask, axis=1)
    if tokens == "mean":
        return ops.sum(states * mask, axis=1) / count
    if tokens == "mean_sqrt_len":
        return ops.sum(states * mask, axis=1) / ops.sqrt(count)
    # A token's place, counted from 1. Padding has none.
    place = ops.cumsum(mask, axis=1) * mask
    weights = place if tokens == "weighted_mean" else place == count[:, None]
    weights = ops.cast(weights, "float32")
    return ops.sum(states * weights, axis=1) / ops.sum(weights, axis=1)
