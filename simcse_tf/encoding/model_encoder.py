"""A model as a function of sentences alone, for evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.encoding.fingerprint import model_fingerprint
from simcse_tf.model.bulk import encode
from simcse_tf.quantization import truncate

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE


class ModelEncoder:
    """`encode` of one model as a function of the sentences alone.

    Args:
        model: A `simcse_tf.SimCSE`.
        max_length: Optional int. As for `encode`.
        prompt: Optional string. What stands before each text. Defaults to `None`: the
            model's own prompt.
        truncate_dim: Optional int. How many of an embedding's dimensions are kept, the
            first ones. Defaults to `None`: all.
        roles: bool or a dictionary. Whether the two sides of a search have prompts of
            their own, the model's or those of the dictionary; see `of_role`. Defaults
            to `True`.
        progress: bool. As for `encode`.
        normalize: bool. As for `encode`.

    Example:

    ```python
    evaluate_pairs(ModelEncoder(model), {"STSBenchmark": pairs})
    ```
    """

    def __init__(
        self,
        model: SimCSE,
        max_length: int | None = None,
        *,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        roles: bool | Mapping[str, str] = True,
        progress: bool = False,
        normalize: bool = True,
    ):
        self._model = model
        self._max_length = max_length
        self._prompt = prompt
        self._truncate_dim = truncate_dim
        self._roles = model.prompts if roles is True else roles or {}
        self._progress = progress
        self._normalize = normalize

    def __call__(self, sentences: list[str]) -> np.ndarray:
        """The embeddings of n sentences, float32 `(n, dim)`."""
        with self._model.behind(self._prompt):
            embeddings = encode(
                self._model,
                sentences,
                max_length=self._max_length,
                progress=self._progress,
                normalize=self._normalize,
            )
        if self._truncate_dim is None:
            return embeddings
        if self._normalize:
            return truncate(embeddings, self._truncate_dim)
        return embeddings[:, : self._truncate_dim]

    @cached_property
    def fingerprint(self) -> str:
        """What tells the model's embeddings from others; computed once."""
        return model_fingerprint(self._model)

    def of_role(self, role: str) -> ModelEncoder:
        """The encoder of one side of a search.

        Args:
            role: string. `"query"` or `"document"`.

        Returns:
            One that puts the prompt of that name before each text; this one if there
            is no such prompt.
        """
        if role not in self._roles:
            return self
        return ModelEncoder(
            self._model,
            self._max_length,
            prompt=self._roles[role],
            truncate_dim=self._truncate_dim,
            roles=False,
            progress=self._progress,
            normalize=self._normalize,
        )


def load_encoder(
    model: str,
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    prompt_name: str | None = None,
    truncate_dim: int | None = None,
    progress: bool = False,
    normalize: bool = True,
    precision: str = "float32",
) -> ModelEncoder:
    """Loads a model as a function of sentences alone, for evaluation.

    Sentences are cut where the backbone has no more positions, not at the model's own
    `max_length`, as in the paper's code.

    Args:
        model: string. What `SimCSE.from_preset` takes.
        pooling: Optional string. The pooler in place of the checkpoint's own.
        max_length: Optional int. Tokens a sentence is cut at.
        prompt_name: Optional string. Which of the checkpoint's prompts stands before
            every text, in place of its default.
        truncate_dim: Optional int. How many of an embedding's dimensions are kept, the
            first ones. Defaults to `None`: all.
        progress: bool. Whether stderr shows how a foreign model was read, and progress
            bars. Defaults to `False`.
        normalize: bool. Whether rows are l2-normalized. Defaults to `True`.
        precision: string. The `dtype` of `SimCSE.from_preset`. Defaults to `"float32"`.

    Returns:
        A function from a list of n strings to a float32 array `(n, embedding_dim)`.

    Raises:
        UserError: If the model cannot be loaded, or has fewer dimensions.

    Example:

    ```python
    encode = load_encoder("runs/mine/best")
    encode(["A man is playing a guitar."]).shape  # (1, 768)
    ```
    """
    from simcse_tf.encoders.base import longest_input
    from simcse_tf.encoding.arguments import say_how_read
    from simcse_tf.model.simcse import SimCSE

    loaded = SimCSE.from_preset(
        model,
        pooling=pooling,
        max_length=max_length,
        prompt_name=prompt_name,
        dtype=precision,
    )
    length = max_length or longest_input(loaded.backbone)
    if progress:
        say_how_read(loaded, model, length)
    if truncate_dim is not None and not 1 <= truncate_dim <= loaded.embedding_dim:
        raise UserError(
            f"{model}: expected 1 to {loaded.embedding_dim} dimensions, which its "
            f"embeddings have, received {truncate_dim}"
        )
    return ModelEncoder(
        loaded,
        length,
        truncate_dim=truncate_dim,
        roles=prompt_name is None,
        progress=progress,
        normalize=normalize,
    )
