"""Training corpora: the paper's two as TFDS builders, and a small grammar.

TensorFlow Datasets takes seconds to import, so nothing here imports it until a
builder is asked for. `register` makes the builders known by name:

>>> import tensorflow_datasets as tfds
>>> from simcse_tf import datasets
>>> datasets.register()
>>> builder = tfds.builder("nli_for_simcse")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simcse_tf.datasets.nli_for_simcse import NliForSimcse
    from simcse_tf.datasets.wiki1m_for_simcse import Wiki1mForSimcse

__all__ = ["NliForSimcse", "Wiki1mForSimcse", "register"]


def register() -> None:
    """Makes `nli_for_simcse` and `wiki1m_for_simcse` known to `tfds.builder`.

    Any number of calls does the same as one.

    Example:

    ```python
    register()
    tfds.load("nli_for_simcse", split="train")
    ```
    """
    # TFDS registers a builder class when it is defined.
    from simcse_tf.datasets import nli_for_simcse, wiki1m_for_simcse  # noqa: F401


def __getattr__(name: str) -> Any:
    if name == "NliForSimcse":
        from simcse_tf.datasets.nli_for_simcse import NliForSimcse

        return NliForSimcse
    if name == "Wiki1mForSimcse":
        from simcse_tf.datasets.wiki1m_for_simcse import Wiki1mForSimcse

        return Wiki1mForSimcse
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
