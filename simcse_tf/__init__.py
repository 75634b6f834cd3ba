"""SimCSE for TensorFlow: contrastive sentence embeddings, trained and served."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE

__version__ = "0.1.0"
__all__ = ["SimCSE"]


def __getattr__(name: str) -> Any:
    # TensorFlow takes seconds to import, and `client --help` does not need it.
    if name == "SimCSE":
        from simcse_tf.model.simcse import SimCSE

        return SimCSE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
