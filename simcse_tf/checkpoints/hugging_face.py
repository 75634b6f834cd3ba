"""Loads a directory of Hugging Face's: transformers' or sentence-transformers'."""

from pathlib import Path
from typing import Any

import keras_hub
import numpy as np

from simcse_tf.checkpoints.architectures import POOLER
from simcse_tf.checkpoints.loaded import LoadedCheckpoint
from simcse_tf.checkpoints.model_config import ModelConfig, read_model_config
from simcse_tf.checkpoints.reading import describe
from simcse_tf.checkpoints.sentence_transformers import SentenceModules, read_modules
from simcse_tf.checkpoints.sizes import check_sizes
from simcse_tf.checkpoints.tensors import read_tensors
from simcse_tf.checkpoints.tokenizer_files import read_tokenizer
from simcse_tf.checkpoints.vocabulary_rows import check_rows
from simcse_tf.checkpoints.weights import MLP, assign, canonical, dense_weights
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json
from simcse_tf.core.regular_files import is_there
from simcse_tf.encoders.base import longest_input
from simcse_tf.encoders.pooling import WITH_HEAD
from simcse_tf.tokenizers.base import Tokenizer
from simcse_tf.tokenizers.bert import BertTokenizer


def load_hugging_face(
    directory: Path,
    pooling: str | None = None,
    prompt_name: str | None = None,
    **overrides: Any,
) -> LoadedCheckpoint:
    """Loads a directory in Hugging Face's format.

    Args:
        directory: The directory.
        pooling: Optional string. The pooling in place of the checkpoint's own.
        prompt_name: Optional string. Which of its prompts is used, in place of its
            default.
        **overrides: Constructor arguments of the backbone, such as `dropout` or
            `dtype`.

    Raises:
        UserError: If it cannot be read, or computes what we do not.

    Example:

    ```python
    load_hugging_face(Path("path/to/minilm")).settings["pooling"]  # "avg"
    ```
    """
    # What a file says wrongly is found before weights are read.
    modules = read_modules(directory, pooling)
    prompt = _prompt(modules, prompt_name, directory)
    config = _config(modules)
    tokenizer = _tokenizer(modules, config)
    rows = config.arguments["vocabulary_size"]
    notes = check_rows(tokenizer, rows, str(modules.encoder), _lines(modules))

    tensors, file, size = read_tensors(modules.encoder)
    named = canonical(tensors, config.architecture)
    # Tensors may share their numbers, of which each takes a byte at least.
    held = min(size, sum(tensor.size for tensor in named.values()))
    check_sizes(config.arguments, held, str(modules.encoder / "config.json"))
    backbone = config.architecture.backbone(**config.arguments | overrides)
    try:
        assign(backbone, named, config.position_offset)
        chosen = pooling or modules.pooling or WITH_HEAD
        head = _head(chosen, modules, named, backbone)
    except UserError as error:
        raise UserError(f"{modules.encoder / file}: {error}") from None
    limit = longest_input(backbone)
    settings = {
        "pooling": chosen,
        "max_length": int(min(modules.max_length or limit, limit)),
        "activation": config.activation,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "dense": [] if chosen == WITH_HEAD else [d.setting() for d in modules.dense],
        "prompt": prompt,
        "prompts": modules.prompts,
    }
    reading = describe(file, settings, modules.notes + notes)
    return LoadedCheckpoint(
        str(directory), backbone, tokenizer, settings, head, reading
    )


def hugging_face_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer alone of a directory in Hugging Face's format.

    Args:
        directory: The directory.

    Raises:
        UserError: If it cannot be read, or splits texts as ours do not.

    Example:

    ```python
    hugging_face_tokenizer(Path("path/to/minilm")).vocabulary_size  # 30522
    ```
    """
    # A pooling given: what is behind the encoder does not matter.
    modules = read_modules(directory, WITH_HEAD)
    return _tokenizer(modules, _config(modules))


def _config(modules: SentenceModules) -> ModelConfig:
    path = modules.encoder / "config.json"
    return read_model_config(read_json(path), str(path))


def _lines(modules: SentenceModules) -> Path | None:
    """The vocabulary with one token a line, if it is the one that counts."""
    encoder = modules.encoder
    return None if is_there(encoder / "tokenizer.json") else encoder / "vocab.txt"


def _prompt(modules: SentenceModules, name: str | None, source: Path) -> str:
    name = name if name is not None else modules.default_prompt
    prompt = "" if name is None else prompt_of(modules.prompts, name, str(source))
    if prompt and not modules.pools_prompt:
        raise UserError(
            f"{source} leaves the prompt's tokens out of the pooling (include_prompt), "
            "which is not computed here"
        )
    return prompt


def prompt_of(prompts: dict[str, str], name: str, source: str) -> str:
    """A model's prompt of a name.

    Raises:
        UserError: If it has no such prompt; the message lists those it has.

    Example:

    ```python
    prompt_of({"query": "query: "}, "query", "e5")  # "query: "
    ```
    """
    if name not in prompts:
        known = ", ".join(prompts) or "none at all"
        raise UserError(f"{source} has no prompt {name!r}: it has {known}")
    return prompts[name]


def _tokenizer(modules: SentenceModules, config: ModelConfig) -> Tokenizer:
    source = modules.encoder
    tokenizer = read_tokenizer(source, config.architecture.model_type)
    pad = tokenizer.pad_token_id
    if config.architecture.pads_positions and config.pad_token_id != pad:
        raise UserError(
            f"{source}: pad_token_id is {config.pad_token_id} in config.json and {pad} "
            "in the tokenizer"
        )
    return _in_lower_case(tokenizer, source) if modules.lowercase else tokenizer


def _in_lower_case(tokenizer: Tokenizer, source: Path) -> Tokenizer:
    config = tokenizer.get_config()
    if not isinstance(tokenizer, BertTokenizer):
        raise UserError(
            f"{source}: do_lower_case of sentence-transformers is honoured with BERT's "
            "tokenizer only"
        )
    if config["lowercase"]:
        return tokenizer
    for token in tokenizer.added_tokens:
        if token.normalized and token.content != token.content.lower():
            raise UserError(
                f"{source}: do_lower_case beside the added token {token.content!r}, "
                "which releases of the tokenizers package find differently: expected "
                "it in lower case"
            )
    # Case alone: what else happens to the text stays as it was.
    return BertTokenizer(tokenizer.vocabulary, **{**config, "lowercase": True})


def _head(
    pooling: str,
    modules: SentenceModules,
    tensors: dict[str, Any],
    backbone: keras_hub.models.Backbone,
) -> list[np.ndarray] | None:
    if modules.dense:
        return modules.head_weights()
    if pooling != WITH_HEAD:
        return None
    width = backbone.hidden_dim
    # The paper's training code writes its own head beside a pooler that it ignores.
    own = dense_weights(tensors, MLP, width)
    return own if own is not None else dense_weights(tensors, POOLER, width)
