"""A SimCSE model for the benchmark MTEB: its `EncoderProtocol`.

`pip install "simcse-tf[mteb]"` brings mteb, and PyTorch with it.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.extras import require
from simcse_tf.core.vectors import l2_normalize
from simcse_tf.model.bulk import encode

if TYPE_CHECKING:
    from simcse_tf.model.sentence_encoder import SentenceEncoder

_HUB_SCHEME = "hf://"
_NAMESPACE = "simcse_tf"


class TaskMetadata(Protocol):
    """What of mteb's `TaskMetadata` chooses a prompt."""

    name: str
    type: str


class MTEBEncoder:
    """What `mteb.evaluate` takes as a model.

    A prompt is chosen from the model's `prompts` as mteb does it: by the task's name
    and the side, the task's name, its type and the side, its type, the side (`"query"`
    or `"document"`). Without one, it is the prompt that the model puts before every
    text, if it has any.

    Args:
        model: A `simcse_tf.SimCSE`, or string: what `SimCSE.from_preset` loads.
        revision: Optional string. mteb does not compute again what it has under a
            name and a revision. Defaults to a hash of what decides the embeddings.
        name: Optional string. `ORG/NAME`, under which mteb keeps the results.
            Defaults to one made from `model`.
        device: `None`. mteb passes it; TensorFlow chooses the device.
        **settings: Arguments of `SimCSE.from_preset`, such as `max_length`: a model
            cuts texts at its own, 32 tokens in the paper, here as in `predict`.

    Raises:
        UserError: If mteb is not installed, there is no such model, or a setting does
            not fit it.

    Example:

    ```python
    import mteb

    model = MTEBEncoder("runs/sup/best", max_length=512)
    mteb.evaluate(model, mteb.get_tasks(tasks=["STSBenchmark"]))
    ```
    """

    def __init__(
        self,
        model: SentenceEncoder | str,
        revision: str | None = None,
        *,
        name: str | None = None,
        device: None = None,
        **settings: Any,
    ):
        require("mteb", extra="mteb")
        _load_triton_first()
        from simcse_tf.model.simcse import SimCSE

        if device is not None:
            raise UserError(
                f"device: received {device}; TensorFlow takes what "
                "CUDA_VISIBLE_DEVICES shows it"
            )
        if isinstance(model, str):
            name = name or _name_of(model)
            model = SimCSE.from_preset(model, **settings)
        elif settings:
            raise UserError(
                f"{', '.join(settings)}: a loaded model keeps its own settings: load "
                "it with these"
            )
        self.model = model
        self.name = name or _name_of(model.preset or "model")
        self.revision = revision or _fingerprint(model)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: TaskMetadata,
        hf_split: str | None = None,
        hf_subset: str | None = None,
        prompt_type: Any = None,
        batch_size: int = 64,
        show_progress_bar: bool = False,
        precision: str = "float32",
    ) -> np.ndarray:
        """Embeds the texts of a task.

        Args:
            inputs: Batches, each a dictionary with the list of strings `"text"`.
            task_metadata: The task's; see the class.
            hf_split: Not used.
            hf_subset: Not used.
            prompt_type: Optional `mteb.types.PromptType`. The side of a pair.
            batch_size: int. Defaults to `64`.
            show_progress_bar: bool. Defaults to `False`.
            precision: string. Only `"float32"`.

        Returns:
            float32 array of shape `(n, embedding_dim)`, rows of unit length.

        Raises:
            UserError: If another precision is asked for.
        """
        if precision != "float32":
            raise UserError(f"precision: expected float32, received {precision}")
        texts = [text for batch in inputs for text in batch["text"]]
        usual = self.model.prompt
        self.model.prompt = self._prompt(task_metadata, prompt_type)
        try:
            return encode(self.model, texts, batch_size, progress=show_progress_bar)
        finally:
            self.model.prompt = usual

    def similarity(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """The cosine of each row with each row.

        Args:
            embeddings1: Array or tensor of shape `(n, dim)` or `(dim,)`.
            embeddings2: Likewise, `(m, dim)` or `(dim,)`.

        Returns:
            float32 array of shape `(n, m)`.
        """
        return _unit_rows(embeddings1) @ _unit_rows(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """The cosine of each row with the row at its place.

        Args:
            embeddings1: Array or tensor of shape `(n, dim)` or `(dim,)`.
            embeddings2: Likewise.

        Returns:
            float32 array of shape `(n,)`.
        """
        product = _unit_rows(embeddings1) * _unit_rows(embeddings2)
        cosines: np.ndarray = product.sum(axis=1)
        return cosines

    @property
    def mteb_model_meta(self) -> Any:
        """The `mteb.models.ModelMeta` that mteb writes beside its results."""
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        words = self.model.backbone.token_embedding
        return ModelMeta.create_empty(
            {
                "name": self.name,
                "revision": self.revision,
                "n_parameters": sum(math.prod(w.shape) for w in _weights(self.model)),
                "n_embedding_parameters": words.input_dim * words.output_dim,
                "max_tokens": self.model.max_length,
                "embed_dim": self.model.embedding_dim,
                "framework": ["TensorFlow"],
                "similarity_fn_name": ScoringFunction.COSINE,
                "use_instructions": bool(self.model.prompt or self.model.prompts),
            }
        )

    def _prompt(self, task: TaskMetadata, prompt_type: Any) -> str:
        side = getattr(prompt_type, "value", prompt_type)
        names = (
            f"{task.name}-{side}",
            task.name,
            f"{task.type}-{side}",
            task.type,
            side,
        )
        for name in names:
            if name in self.model.prompts:
                return self.model.prompts[name]
        return self.model.prompt


def _load_triton_first() -> None:
    """Loads PyTorch's compiler, which crashes the process after TensorFlow.

    mteb loads it with sentence-transformers, when it evaluates.

    Raises:
        UserError: If TensorFlow is loaded already.
    """
    if find_spec("triton") is None or "triton" in sys.modules:
        return
    if "tensorflow" in sys.modules:
        raise UserError(
            "PyTorch's triton crashes where TensorFlow is loaded before it: import "
            "sentence_transformers before anything else"
        )
    import sentence_transformers  # noqa: F401


def _name_of(model: str) -> str:
    """`ORG/NAME` for mteb, without the directories of this machine."""
    if model.startswith(_HUB_SCHEME):
        return model.removeprefix(_HUB_SCHEME)
    # A run's models are all called best or last: with the run's own name.
    path = Path(model).resolve() if Path(model).is_dir() else Path(model)
    parts = [part for part in path.parts[-2:] if part.strip("/.:")]
    return f"{_NAMESPACE}/{'-'.join(parts)}"


def _fingerprint(model: SentenceEncoder) -> str:
    description = json.dumps(model.description(), sort_keys=True, default=str)
    digest = hashlib.sha256(description.encode())
    for weight in _weights(model):
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()


def _weights(model: SentenceEncoder) -> list[Any]:
    # The model's own list holds the states of random generators as well.
    head = model.head.weights if model.head is not None else []
    return [*model.backbone.weights, *head]


def _unit_rows(embeddings: Any) -> np.ndarray:
    return l2_normalize(np.atleast_2d(np.asarray(embeddings, np.float32)))
