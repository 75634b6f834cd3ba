"""Whether an export's signature `search` finds what was recorded."""

from __future__ import annotations

import numpy as np

from simcse_tf.client.protocol import NO_HIT
from simcse_tf.core.errors import UserError
from simcse_tf.exporting.manifest import SignatureTypes, TensorType
from simcse_tf.exporting.signatures import Arrays


def search_types(has_metadata: bool) -> SignatureTypes:
    """The types of the signature `search`.

    Args:
        has_metadata: bool. Whether hits have metadata.

    Example:

    ```python
    search_types(has_metadata=False).inputs["k"].dtype  # "int32"
    ```
    """
    strings = TensorType(dtype="string", shape=[None, None])
    names = ("ids", "texts", *(("metadata",) if has_metadata else ()))
    cosines = TensorType(dtype="float32", shape=[None, None])
    return SignatureTypes(
        inputs={
            "text": TensorType(dtype="string", shape=[None]),
            "k": TensorType(dtype="int32", shape=[None]),
        },
        outputs={**dict.fromkeys(names, strings), "cosines": cosines},
    )


def compare_hits(received: Arrays, recorded: Arrays, tolerance: float) -> float:
    """The largest difference of a cosine from the recorded one.

    Rows whose cosines are nearer to each other than the tolerance may change places,
    also with one that was not recorded.

    Args:
        received: The outputs of `search`.
        recorded: The same, as recorded.
        tolerance: How far a cosine may be from the recorded one.

    Raises:
        UserError: If another row was found, or at another distance.

    Example:

    ```python
    compare_hits(answers, recorded, tolerance=1e-5)  # 1e-7
    ```
    """
    if received.keys() != recorded.keys():
        raise UserError(
            f"search: expected {sorted(recorded)}, received {sorted(received)}"
        )
    for name, wanted in recorded.items():
        if received[name].shape != wanted.shape:
            raise UserError(
                f"{name} of search: expected the shape {wanted.shape}, received "
                f"{received[name].shape}"
            )
    cosines = recorded["cosines"]
    differences = np.abs(received["cosines"] - cosines)
    if not (differences <= tolerance).all():
        raise UserError(
            f"cosines of search differ from the recorded ones by "
            f"{differences.max():.2g}, more than {tolerance}"
        )
    strings = [name for name, wanted in recorded.items() if wanted.dtype == object]
    for row in range(len(cosines)):
        there = _rows(received, strings, row)
        for column, wanted in enumerate(_rows(recorded, strings, row)):
            if there[column] != wanted and not _may_move(
                cosines[row], column, 2 * tolerance
            ):
                raise UserError(
                    f"search found {there[column][0]!r} where {wanted[0]!r} was recorded"
                )
    return float(differences.max(initial=0))


def _rows(outputs: Arrays, names: list[str], row: int) -> list[tuple[bytes, ...]]:
    return [*zip(*(outputs[name][row].tolist() for name in names), strict=True)]


def _may_move(cosines: np.ndarray, column: int, tolerance: float) -> bool:
    """Whether another row is as near as that of a column, or may be: the last one."""
    if cosines[column] == NO_HIT:
        return False
    others = np.delete(cosines, column)
    is_last = column + 1 == len(cosines) or cosines[column + 1] == NO_HIT
    return is_last or bool((np.abs(others - cosines[column]) <= tolerance).any())
