"""A model as a directory that sentence-transformers, transformers and TEI load."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import numpy as safetensors

from simcse_tf.checkpoints.architectures import POOLER, architecture_of
from simcse_tf.checkpoints.model_config import config_of
from simcse_tf.checkpoints.tokenizer_files import read_tokenizer, write_tokenizer
from simcse_tf.checkpoints.weights import Tensors, tensors_of
from simcse_tf.core.atomic import atomic_directory, check_room
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import write_json
from simcse_tf.core.outputs import writing_output
from simcse_tf.core.vectors import check_finite
from simcse_tf.encoders.pooling import WITH_HEAD
from simcse_tf.exporting.manifest import training_record
from simcse_tf.exporting.model_card import CardFacts, model_card
from simcse_tf.exporting.saved_model import checked_weights, report_stage
from simcse_tf.exporting.sentence_modules import (
    head_layers,
    modules,
    named_prompts,
    write_modules,
)
from simcse_tf.exporting.versions import check_new_directory

if TYPE_CHECKING:
    from simcse_tf.model.sentence_encoder import SentenceEncoder

# Short and long texts, plain and odd ones.
PROBES = (
    "A man is playing a guitar.",
    "",
    " two  spaces,\ttabs\nand lines ",
    "Ünïcödé, naïve Straße, 漢字, العربية and 🙂👩‍👩‍👧",
    "don't; 3,000.50 e-mails @ https://example.org/a_b?c=d",
    "word " * 2000,
)
# Both are float32; only the order of sums differs.
_LEAST_COSINE = 1 - 1e-6


def export_sentence_transformers(
    model: SentenceEncoder,
    directory: str,
    *,
    name: str | None = None,
    source: str | None = None,
    progress: bool = False,
) -> Path:
    """Writes a model for sentence-transformers; the directory is whole or not there.

    It is read again, as any foreign model is, and compared with `model.predict` before
    it appears.

    Args:
        model: A `simcse_tf.SimCSE` that computes in float32.
        directory: string. Must not be there, or be empty.
        name: Optional string. What the model card calls the model, such as `ORG/NAME`.
            Defaults to the directory's name.
        source: Optional string. The MODEL argument that the model was loaded from, for
            the model card.
        progress: bool. Whether to report each stage on stderr. Defaults to `False`.

    Returns:
        `pathlib.Path` of the directory.

    Raises:
        UserError: If the directory is there or cannot be written, the model's weights
            or embeddings are not finite, or sentence-transformers cannot compute what
            the model does.
        RuntimeError: If what was written does not embed as the model does; nothing is
            there then.

    Example:

    ```python
    model = SimCSE.from_preset("runs/sup/best")
    export_sentence_transformers(model, "models/mine", source="runs/sup/best")
    ```
    """
    final = Path(directory)
    if model.precision != "float32":
        raise UserError(
            "a sentence-transformers directory holds float32 weights, and who loads it "
            f"chooses what it computes in; this model computes in {model.precision}"
        )
    modules(model)
    check_new_directory(final)
    training = training_record(source) if source else None
    size = checked_weights(model)
    wanted = _embeddings(model)
    with (
        writing_output("--output", final),
        atomic_directory(final, replace=False) as temporary,
    ):
        check_room(temporary, size)
        report_stage(progress, "writing weights, tokenizer and modules")
        write_transformer(model, temporary)
        write_modules(model, temporary)
        facts = _facts(model, name or final.name, temporary)
        if facts.special_tokens:
            report_stage(progress, f"in a text, {facts.special_tokens}")
        card = model_card(facts, training, source)
        (temporary / "README.md").write_text(card, "utf-8")
        report_stage(progress, "loading it and comparing")
        _compare(wanted, temporary)
    return final


def write_transformer(model: SentenceEncoder, directory: Path) -> None:
    """Writes what transformers loads: config, weights and tokenizer.

    Args:
        model: A `simcse_tf.SimCSE`.
        directory: The directory.

    Raises:
        UserError: If transformers has no such model.
        OSError: If a file cannot be written.

    Example:

    ```python
    write_transformer(model, Path("models/mine"))
    ```
    """
    pad = model.tokenizer.pad_token_id
    config = config_of(model.backbone, pad)
    write_json(directory / "config.json", config)
    tensors = tensors_of(model.backbone, pad + 1) | _pooler(model)
    # transformers refuses a file that does not name its framework.
    content = safetensors.save(tensors, {"format": "pt"})
    (directory / "model.safetensors").write_bytes(content)
    family = config["model_type"]
    write_tokenizer(model.tokenizer, directory, model.max_length, family)


def _pooler(model: SentenceEncoder) -> Tensors:
    """The layer that transformers puts on the first token, where it has one.

    It is SimCSE's head, so that `pooler_output` is the embedding, as it is for the
    paper's released models. transformers would draw weights that are missing at random,
    and say that the model is to be trained: where there is no pooler they are zero.
    """
    if architecture_of(model.backbone).model_type == "distilbert":
        return {}
    width = model.backbone.hidden_dim
    kernel, bias = np.zeros((width, width), np.float32), np.zeros(width, np.float32)
    if model.head is not None and model.pooling == WITH_HEAD:
        kernel, bias = model.head.get_weights()
    elif (pooler := getattr(model.backbone, "pooled_dense", None)) is not None:
        kernel, bias = pooler.get_weights()
    return dict(zip(POOLER, (np.ascontiguousarray(kernel.T), bias), strict=True))


def _facts(model: SentenceEncoder, name: str, directory: Path) -> CardFacts:
    prompts, default = named_prompts(model)
    head = head_layers(model)
    family = architecture_of(model.backbone).model_type
    return CardFacts(
        name=name,
        family=family,
        pooling=model.pooling,
        layers=[
            f"a dense layer of {layer.units} with {layer.activation}"
            for layer, _ in head
        ],
        max_length=model.max_length,
        dimensions=model.embedding_dim,
        parameters=sum(math.prod(weight.shape) for weight in model.backbone.weights)
        + sum(array.size for _, weights in head for array in weights),
        prompts=prompts,
        default_prompt=default,
        special_tokens=_special_tokens(model, directory, family),
    )


def _special_tokens(model: SentenceEncoder, directory: Path, family: str) -> str | None:
    """What the files of Unigram's tokens cannot leave plain text, as it is to us."""
    written = read_tokenizer(directory, family).added_tokens
    if {*written} == {*model.tokenizer.added_tokens}:
        return None
    known = {token.content for token in model.tokenizer.added_tokens}
    names = ", ".join(each.content for each in written if each.content not in known)
    return f"{names} control this model; to the one that was exported they are plain"


def _embeddings(model: SentenceEncoder) -> np.ndarray:
    embeddings = model.predict(list(PROBES), verbose=0)
    check_finite(embeddings, "the model's embeddings of some texts")
    return embeddings


def _compare(wanted: np.ndarray, directory: Path) -> None:
    from simcse_tf.model.sentence_encoder import SentenceEncoder

    found = _embeddings(SentenceEncoder.from_preset(str(directory)))
    if wanted.shape != found.shape:
        raise RuntimeError(
            f"the export embeds in {found.shape[1]} dimensions, the model in "
            f"{wanted.shape[1]}; not published"
        )
    cosines = (wanted.astype(np.float64) * found.astype(np.float64)).sum(axis=1)
    if not (cosines >= _LEAST_COSINE).all():
        raise RuntimeError(
            f"the export embeds {PROBES[int(cosines.argmin())][:40]!r} with a cosine "
            f"of {cosines.min():.7f} to the model; not published"
        )
