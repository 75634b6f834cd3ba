"""Transformers' models with weights that follow from their names."""

import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer

VOCABULARIES = Path("vocabularies")  # `make_foreign_checkpoints` sets it.
POSITIONS = 64
LENGTH = 64

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
}
_CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _SIZES,
    "distilbert": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": POSITIONS,
    },
    # Two positions stand before the first token's.
    "roberta": {
        **_SIZES,
        "max_position_embeddings": POSITIONS + 2,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    },
}
_CONFIGS["xlm-roberta"] = _CONFIGS["roberta"]
FAMILIES = tuple(_CONFIGS)

_TOKENIZERS = {
    "bert": transformers.BertTokenizerFast,
    "distilbert": transformers.DistilBertTokenizerFast,
    "roberta": transformers.RobertaTokenizerFast,
    "xlm-roberta": transformers.XLMRobertaTokenizerFast,
}
_VOCABULARY_OF = {"distilbert": "bert"}
_PREFIXES = ("bert.", "roberta.", "distilbert.")
# Where the masked language model's output layer shares the table of words.
_TIED = (
    "lm_head.decoder.weight",
    "cls.predictions.decoder.weight",
    "vocab_projector.weight",
)


def fill(module: torch.nn.Module) -> None:
    """Gives each weight large values that follow from its name alone.

    They are eighths: exact in half precision, and a small archive. They are large, so
    that two readings of a checkpoint are far apart.
    """
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(torch.from_numpy(values(name, tuple(weight.shape))))


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values of a weight, float32."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    if name in _TIED:
        name = "embeddings.word_embeddings.weight"
    random = np.random.default_rng(zlib.crc32(name.encode()))
    scale = name.lower().endswith("layernorm.weight") or name.endswith(
        "layer_norm.weight"
    )
    if "word_embeddings" in name:
        spread = 0.7
    elif "embeddings" in name and len(shape) == 2:
        spread = 0.4
    elif len(shape) == 2:
        spread = 2 / np.sqrt(shape[1])
    else:
        spread = 0.3
    if "layer_weights" in name:  # A weighted mean's.
        return np.asarray(1 + np.arange(shape[0]), np.float32)
    eighths = np.round(random.normal(0, spread, shape) * 8) / 8
    return np.asarray(eighths + 1 if scale else eighths, np.float32)


def tokenizer_of(family: str, **settings: Any) -> Any:
    """A tokenizer of transformers, from the vocabulary's files."""
    files = VOCABULARIES / _VOCABULARY_OF.get(family, family)
    settings.setdefault("model_max_length", LENGTH)
    return _TOKENIZERS[family].from_pretrained(str(files), **settings)


def config_of(family: str, vocabulary_size: int, **changes: Any) -> Any:
    """A small configuration."""
    settings = {**_CONFIGS[family], "vocab_size": vocabulary_size, **changes}
    return transformers.AutoConfig.for_model(family, **settings)


def write_transformer(
    directory: Path,
    family: str = "bert",
    config: Mapping[str, Any] | None = None,
    tokenizer: Any = None,
    model_class: Any = transformers.AutoModel,
    rows: int = 0,
) -> None:
    """Writes a directory of transformers.

    Args:
        directory: Where to.
        family: string. One of `FAMILIES`.
        config: Changes to the family's configuration.
        tokenizer: The family's, where it is `None`.
        model_class: One of transformers' classes.
        rows: int. Rows of the word table beyond the tokenizer's vocabulary.
    """
    tokenizer = tokenizer or tokenizer_of(family)
    settings = config_of(family, len(tokenizer) + rows, **(config or {}))
    if hasattr(model_class, "from_config"):
        model = model_class.from_config(settings)
    else:
        model = model_class(settings)
    fill(model)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def write_sentence_transformer(
    directory: Path,
    family: str = "bert",
    pooling: str | Sequence[str] | None = "mean",
    between: Sequence[torch.nn.Module] = (),
    after: Sequence[torch.nn.Module] = (),
    include_prompt: bool = True,
    keywords: Mapping[str, Any] | None = None,
    **transformer: Any,
) -> None:
    """Writes a directory of sentence-transformers.

    Args:
        directory: Where to.
        family: string. One of `FAMILIES`.
        pooling: The pooling mode or modes; none without a Pooling module.
        between: Modules between the transformer and the pooling.
        after: Modules behind the pooling.
        include_prompt: bool. Whether the pooling reads the prompt's tokens.
        keywords: Further arguments of `SentenceTransformer`.
        **transformer: See `write_transformer`.
    """
    with tempfile.TemporaryDirectory() as source:
        write_transformer(Path(source), family, **transformer)
        first = Transformer(source)
        modules: list[torch.nn.Module] = [first, *between]
        if pooling is not None:
            width = first.model.config.hidden_size
            for module in between:
                width = module.get_embedding_dimension()
            modules.append(
                Pooling(width, pooling_mode=pooling, include_prompt=include_prompt)
            )
        for module in (*between, *after):
            fill(module)
        model = SentenceTransformer(
            modules=[*modules, *after], device="cpu", **(keywords or {})
        )
        model.save(str(directory), create_model_card=False)
