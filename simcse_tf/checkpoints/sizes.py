"""Whether a config describes an encoder of the size of its weights."""

from collections.abc import Mapping
from typing import Any

from simcse_tf.core.errors import UserError

_KEYS = ("vocabulary_size", "hidden_dim", "num_layers", "intermediate_dim")


def check_sizes(arguments: Mapping[str, Any], held: int, source: str) -> None:
    """Refuses a config whose encoder would take far more memory than its weights.

    It is built before its weights are compared one by one.

    Args:
        arguments: The arguments of a backbone. One without all of the keys of a
            transformer is not checked.
        held: int. How many numbers the weights hold.
        source: string. The config, for the message.

    Raises:
        UserError: If it describes more.

    Example:

    ```python
    check_sizes(config.arguments, 22_713_216, "models/mine/config.json")
    ```
    """
    sizes = [size for key in _KEYS if type(size := arguments.get(key)) is int]
    if len(sizes) < len(_KEYS):
        return
    tokens, width, layers, inner = sizes
    length = arguments.get("max_sequence_length") or 0
    described = (tokens + length + layers * (4 * width + 2 * inner)) * width
    # What is missing in part is told by its name later.
    if described > 2 * held:
        raise UserError(
            f"{source} describes {described} numbers or more, and the weights hold "
            f"{held}"
        )
