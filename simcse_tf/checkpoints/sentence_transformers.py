"""What a sentence-transformers directory puts around its encoder, as our settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from simcse_tf.checkpoints.dense_module import DenseModule, is_cls_head, read_dense
from simcse_tf.checkpoints.module_list import (
    MODULES,
    PROMPTS,
    TRANSFORMER_CONFIGS,
    Module,
    read_module_list,
)
from simcse_tf.checkpoints.reading import titled
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, shown
from simcse_tf.core.regular_files import is_there
from simcse_tf.encoders.pooling import WITH_HEAD

# Our names of the poolings, in the order in which older releases concatenate them.
POOLING_MODES = {
    "cls": "cls_before_pooler",
    "max": "max",
    "mean": "avg",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weightedmean",
    "lasttoken": "lasttoken",
}
# Before 5.4 there was one switch a mode.
POOLING_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_POOLING_KEYS = {
    "embedding_dimension",
    "word_embedding_dimension",
    "pooling_mode",
    "include_prompt",
    *POOLING_SWITCHES,
}
# Keys of the encoder's module, and with which values they change nothing here. Lengths
# of queries and documents count only where the caller says which of them a text is.
_TRANSFORMER_KEYS: dict[str, tuple[Any, ...] | None] = {
    "max_seq_length": None,
    "do_lower_case": None,
    "unpad_inputs": None,
    "query_length": None,
    "document_length": None,
    "transformer_task": ("feature-extraction",),
    "module_output_name": ("token_embeddings",),
    "query_expansion": (None,),
    "processing_kwargs": ({}, None),
    "tokenizer_name_or_path": (None,),
}
_FORWARD = {"method": "forward", "method_output_name": "last_hidden_state"}
# Arguments of the classes of transformers that change no more than speed and precision.
_ARGUMENTS = tuple(
    f"{of}_{name}"
    for of in ("model", "tokenizer", "processor", "config")
    for name in ("args", "kwargs")
)
_HARMLESS_ARGUMENTS = {
    "torch_dtype",
    "dtype",
    "attn_implementation",
    "add_pooling_layer",
    "low_cpu_mem_usage",
    "use_safetensors",
    "trust_remote_code",
    "device_map",
    "use_fast",
    "revision",
}


@dataclass(frozen=True)
class SentenceModules:
    """What a directory says about the way from text to embedding.

    Attributes:
        encoder: The directory of the encoder and its tokenizer.
        pooling: Optional string, in our names. `None` where nothing is said.
        dense: The dense layers behind the pooling.
        max_length: Optional int. Tokens a text is cut at.
        lowercase: bool. Whether texts are put in lower case before all else.
        prompts: Dictionary of named prompts.
        default_prompt: Optional string. The name of the one that is used.
        pools_prompt: bool. Whether the prompt's tokens are pooled too.
        normalized: bool. Whether a module scales embeddings to unit length.
        notes: What else is to be said of how the directory was read.
    """

    encoder: Path
    pooling: str | None = None
    dense: tuple[DenseModule, ...] = ()
    max_length: int | None = None
    lowercase: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    pools_prompt: bool = True
    normalized: bool = False
    notes: tuple[str, ...] = ()

    def head_weights(self) -> list[np.ndarray]:
        """The dense layers' weights, in the order of `head.get_weights()`."""
        return [each for module in self.dense for each in module.weights]


def read_modules(directory: Path, pooling: str | None = None) -> SentenceModules:
    """Reads `modules.json` and the files it names.

    Args:
        directory: A directory that sentence-transformers wrote, of any release since
            2, or a plain one of transformers.
        pooling: Optional string. A pooling of the user's own: modules behind the
            encoder then do not count.

    Raises:
        UserError: If it asks for what is not computed here; the message names it.

    Example:

    ```python
    read_modules(Path("path/to/minilm")).pooling  # "avg"
    ```
    """
    listed = read_module_list(directory, pooling)
    prompts = _read_prompts(directory / PROMPTS)
    found = replace(prompts, encoder=_encoder(directory, listed))
    found = _with_transformer(found)
    if pooling is not None:
        return _with_another_pooling(found, directory, listed, pooling)
    return _with_modules(found, directory, listed)


def _encoder(directory: Path, listed: list[Module]) -> Path:
    path = listed[0].path
    if listed[0].name != "Transformer":
        raise UserError(
            f"{directory / MODULES} begins with the module {listed[0].kind}, which is "
            "not computed here: expected a Transformer"
        )
    if not is_there(path / "config.json"):
        if is_there(path / "adapter_config.json"):
            raise UserError(f"{path} holds an adapter alone: merge it into its model")
        raise UserError(f"{path} holds no encoder: expected a config.json in it")
    if is_there(path / "adapter_config.json"):
        raise UserError(
            f"{path / 'adapter_config.json'}: adapters are not computed here: merge "
            "it into the model first"
        )
    return path


def _with_modules(
    found: SentenceModules, directory: Path, listed: list[Module]
) -> SentenceModules:
    for module in listed[1:]:
        found = _with_module(found, module)
    if found.pooling is None and is_there(directory / MODULES):
        raise UserError(f"{directory / MODULES} has no Pooling module")
    if found.pooling == "cls_before_pooler" and is_cls_head(found.dense):
        return replace(found, pooling=WITH_HEAD)
    return found


def _with_module(found: SentenceModules, module: Module) -> SentenceModules:
    name, path = module.name, module.path
    if name == "Pooling" and found.pooling is None:
        return _with_pooling(found, path / "config.json")
    if name == "Dropout":
        return found
    if name == "Normalize":
        _check_normalize(path / "config.json")
        return replace(found, normalized=True)
    if name == "Dense" and found.pooling is not None:
        if found.normalized:
            raise UserError(
                f"{path}: a Dense module behind a Normalize module is not computed here"
            )
        return replace(found, dense=(*found.dense, read_dense(path)))
    raise UserError(
        f"{path}: the module {module.kind} is not computed here: expected Transformer, "
        "Pooling, and then Dense, Normalize and Dropout; with a --pooling of your own "
        "what is behind the encoder is left out"
    )


def _check_normalize(path: Path) -> None:
    config = _optional(path)
    for key in ("module_input_name", "module_output_name"):
        if config.get(key, "sentence_embedding") not in ("sentence_embedding", None):
            raise UserError(f"{path}: {key} is {config[key]!r}, not computed here")


def _with_pooling(found: SentenceModules, path: Path) -> SentenceModules:
    config = read_json(path)
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected a JSON object, received {shown(config)}")
    if unknown := [key for key in config if key not in _POOLING_KEYS]:
        raise UserError(f"{path}: unknown key {unknown[0]}")
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [
            mode for key, mode in POOLING_SWITCHES.items() if config.get(key)
        ] or "mean"
    modes = [modes] if isinstance(modes, str) else list(modes)
    if unknown := [mode for mode in modes if mode not in POOLING_MODES]:
        raise UserError(
            f"{path} asks for the pooling {unknown[0]!r}: expected one of "
            f"{', '.join(POOLING_MODES)}; choose another with --pooling"
        )
    return replace(
        found,
        pooling="+".join(POOLING_MODES[mode] for mode in modes),
        pools_prompt=config.get("include_prompt", True) is not False,
    )


def _with_transformer(found: SentenceModules) -> SentenceModules:
    paths = [found.encoder / name for name in TRANSFORMER_CONFIGS]
    path = next((path for path in paths if is_there(path)), paths[0])
    config = dict(_optional(path))
    arguments = _arguments(config, path)
    _check_modalities(config.pop("modality_config", None), path)
    for key, value in config.items():
        if key not in _TRANSFORMER_KEYS:
            raise UserError(f"{path}: {key} is not known, and not honoured here")
        harmless = _TRANSFORMER_KEYS[key]
        if harmless is not None and value not in harmless:
            raise UserError(f"{path}: {key} is {value!r}, which is not computed here")
    tokenizer = _optional(found.encoder / "tokenizer_config.json")
    length = config.get("max_seq_length") or arguments.get("model_max_length")
    return replace(
        found,
        max_length=length or tokenizer.get("model_max_length"),
        lowercase=bool(config.get("do_lower_case")),
    )


def _arguments(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Takes what the module passes to transformers out of its config."""
    found: dict[str, Any] = {}
    for name in _ARGUMENTS:
        found.update(config.pop(name, None) or {})
    for key, value in found.items():
        if key not in _HARMLESS_ARGUMENTS | {"model_max_length"}:
            raise UserError(
                f"{path}: the argument {key}={value!r} is not honoured here"
            )
    return found


def _check_modalities(modalities: Any, path: Path) -> None:
    if modalities not in (None, {"text": _FORWARD}):
        raise UserError(
            f"{path}: modality_config is {modalities!r}: expected text alone, computed "
            "as the encoder's last hidden states"
        )


def _read_prompts(path: Path) -> SentenceModules:
    config = _optional(path)
    kind = config.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise UserError(f"{path}: a {kind} makes no sentence embeddings of one vector")
    if config.get("truncate_dim") is not None:
        raise UserError(
            f"{path}: truncate_dim is {config['truncate_dim']}, which is not computed "
            "here: export with --truncate-dims, or remove it"
        )
    prompts = {name: text or "" for name, text in (config.get("prompts") or {}).items()}
    default = config.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise UserError(f"{path}: default_prompt_name {default!r} is none of prompts")
    compared_by = config.get("similarity_fn_name") or "cosine"
    notes = (f"made for the {compared_by} similarity",)
    return SentenceModules(
        path.parent,
        prompts=prompts,
        default_prompt=default,
        notes=() if compared_by == "cosine" else notes,
    )


def _with_another_pooling(
    found: SentenceModules,
    directory: Path,
    listed: list[Module],
    pooling: str,
) -> SentenceModules:
    """Leaves out what is behind the encoder, and says so."""
    try:
        own = _with_modules(found, directory, listed)
    except UserError:
        # It computes what we do not, and shall not.
        own = found
    if own.pooling == pooling == WITH_HEAD:
        # Its head is a Dense module.
        return own
    notes = found.notes
    if own.pooling not in (None, pooling):
        notes += (f"its {titled(own.pooling)} replaced",)
    others = [module.name for module in listed[1:]]
    left_out = [name for name in others if name not in ("Pooling", "Normalize")]
    if left_out:
        notes += (f"its {' and '.join(left_out)} left out",)
    return replace(found, notes=notes)


def _optional(path: Path) -> Mapping[str, Any]:
    content = read_json(path) if is_there(path) else {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dictionary")
    return content
