"""What arguments of Keras' methods mean for sentences, and which mean nothing."""

from collections.abc import Iterator, Mapping
from typing import Any

from simcse_tf.core.errors import UserError
from simcse_tf.model.text_datasets import is_batched_source
from simcse_tf.model.text_inputs import Columns, columns_of

# Keras' own default.
BATCH_SIZE = 32

_MEANINGLESS = {
    "class_weight": "sentences have no classes",
    "sample_weight": "the loss of an example depends on the others of its batch",
}


def is_prepared(x: Any) -> bool:
    """Whether something is what `SimCSE.prepare` returns, or describes it.

    Example:

    ```python
    is_prepared(model.prepare(tf.constant(texts)))  # True
    ```
    """
    return isinstance(x, Mapping) and any(isinstance(v, Mapping) for v in x.values())


def has_tokens(x: Any) -> bool:
    """Whether something is what `SimCSE.preprocess` returns, or describes it.

    Example:

    ```python
    has_tokens(model.preprocess(tf.constant(texts)))  # True
    ```
    """
    return isinstance(x, Mapping) and "token_ids" in x


def split(x: Any, y: Any, share: float) -> tuple[Columns, Columns]:
    """The first examples and the last ones, as Keras splits arrays.

    Args:
        x: See `columns_of`.
        y: See there.
        share: float. The share of the last ones.

    Raises:
        UserError: If `x` yields batches, or one part would be empty.

    Example:

    ```python
    split(["one", "two", "three", "four"], None, 0.25)  # three of them and one
    ```
    """
    if is_batched_source(x):
        raise UserError(
            f"validation_split: a {type(x).__name__} has no known last examples: "
            "expected lists or arrays, or validation_data"
        )
    columns = columns_of(x, y)
    size = len(columns[0])
    first = int(size * (1 - share))
    if not 0 < first < size:
        raise UserError(
            f"validation_split: expected a share that leaves some of the {size} "
            f"examples on both sides, received {share}"
        )
    return tuple(c[:first] for c in columns), tuple(c[first:] for c in columns)


def checked_batch_size(batch_size: int | None) -> int:
    """The number of examples of a batch.

    Args:
        batch_size: Optional int. Defaults to Keras' own default.

    Raises:
        UserError: If a batch would have no negatives.

    Example:

    ```python
    checked_batch_size(None)  # 32
    ```
    """
    if batch_size is not None and batch_size < 2:
        raise UserError(
            "batch_size: expected 2 or more, because an example's negatives are the "
            f"others of its batch; received {batch_size}"
        )
    return batch_size or BATCH_SIZE


def check_epochs(x: Any, epochs: int, steps_per_epoch: int | None) -> None:
    """Checks that what is trained on lasts.

    Args:
        x: What `fit` gets.
        epochs: int.
        steps_per_epoch: Optional int.

    Raises:
        UserError: If `x` is a generator, and would be empty after the first epoch.

    Example:

    ```python
    check_epochs(generator, epochs=1, steps_per_epoch=None)
    ```
    """
    if isinstance(x, Iterator) and steps_per_epoch is None and epochs > 1:
        raise UserError(
            f"a generator is read once: expected steps_per_epoch with {epochs} epochs, "
            "or a list or tf.data.Dataset"
        )


def refuse(name: str, value: Any) -> None:
    """Refuses an argument that means nothing for sentences.

    Args:
        name: string. `"class_weight"` or `"sample_weight"`.
        value: What was given for it.

    Raises:
        UserError: If that is anything.

    Example:

    ```python
    refuse("class_weight", None)
    ```
    """
    if value is not None:
        raise UserError(
            f"{name}: expected none, because {_MEANINGLESS[name]}: repeat or leave out "
            "examples instead"
        )


def refuse_losses(loss: Any, metrics: Any) -> None:
    """Refuses what compares outputs with labels.

    Args:
        loss: What `compile` got as its loss.
        metrics: What it got as metrics.

    Raises:
        UserError: If either is given.

    Example:

    ```python
    refuse_losses(None, [])
    ```
    """
    if loss is not None:
        raise UserError(
            f"loss: expected none, received {loss!r}: what is minimized is the "
            "objective, compile(optimizer, objective=Contrastive())"
        )
    if metrics:
        raise UserError(
            f"metrics: expected none, received {metrics!r}: sentences have no labels; "
            "fit logs the loss, and simcse_tf.evaluate scores embeddings"
        )
