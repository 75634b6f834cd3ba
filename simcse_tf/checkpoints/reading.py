"""How a foreign model was read, in one line."""

from collections.abc import Iterable, Mapping
from typing import Any

from simcse_tf.encoders.pooling import WITH_HEAD

_POOLINGS = {"avg": "mean", "cls_before_pooler": "[CLS]"}


def describe(file: str, settings: Mapping[str, Any], notes: Iterable[str] = ()) -> str:
    """Says what a foreign model's files were taken for.

    Where texts are cut is left to the caller: evaluation does not cut them.

    Args:
        file: string. Where the weights came from.
        settings: Dictionary. Arguments of `SentenceEncoder`.
        notes: What else there is to say.

    Returns:
        string. One line.

    Example:

    ```python
    describe("model.safetensors", {"pooling": "avg"})
    # "model.safetensors read as: mean pooling, l2-normalized, no prompt"
    ```
    """
    said = [titled(settings["pooling"])]
    said += [
        f"dense layer to {layer['units']} ({layer['activation']})"
        for layer in settings.get("dense") or ()
    ]
    said += ["l2-normalized", _prompt(settings)]
    return f"{file} read as: {', '.join([*said, *notes])}"


def titled(pooling: str) -> str:
    """A pooling in the field's words.

    Example:

    ```python
    titled("avg+max")  # "mean+max pooling"
    ```
    """
    if pooling == WITH_HEAD:
        return f"{WITH_HEAD} pooling with the head"
    names = "+".join(_POOLINGS.get(each, each) for each in pooling.split("+"))
    return f"{names} pooling"


def _prompt(settings: Mapping[str, Any]) -> str:
    prompt = settings.get("prompt") or ""
    said = f"prompt {prompt!r}" if prompt else "no prompt"
    others = [name for name, text in (settings.get("prompts") or {}).items() if text]
    return f"{said} (it has {', '.join(others)})" if others and not prompt else said
