"""SimCSE for TensorFlow: contrastive sentence embeddings, trained and served."""

from typing import TYPE_CHECKING, Any

from simcse_tf.version import __version__

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE

__all__ = ["SimCSE", "__version__"]


def __getattr__(name: str) -> Any:
    # TensorFlow takes seconds to import, and `client --help` does not need it.
    if name == "SimCSE":
        from simcse_tf.model.simcse import SimCSE

        return SimCSE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
