"""A repository of the Hugging Face hub as a local directory."""

import re
from pathlib import Path
from typing import Any

from simcse_tf.checkpoints.module_list import MODULES
from simcse_tf.checkpoints.tensors import WEIGHT_FILES
from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import is_there, shown_path

SCHEME = "hf://"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")

# Configs, vocabularies, and what sentence-transformers' modules, KerasHub's presets and
# ours hold. Not what the model was converted to for other runtimes.
_SMALL_FILES = [
    *("*.json", "*.txt", "*.model", "[0-9]_*/*"),
    *("assets/*", "head.safetensors"),
]
_KERAS_HUB_WEIGHTS = ["model*.weights.h5", "model.weights.json"]
_OTHER_RUNTIMES = ["onnx/*", "openvino/*", "coreml/*", "*.onnx", "*.msgpack.gz"]


def looks_like_repository(name: str) -> bool:
    """Whether something might be a repository's name: `ORG/NAME`.

    Example:

    ```python
    looks_like_repository("sentence-transformers/all-MiniLM-L6-v2")  # True
    ```
    """
    return _NAME.fullmatch(name) is not None


def download(handle: str) -> Path:
    """Downloads what a model needs of a repository, once.

    Of several files with the same weights one is fetched: safetensors, else PyTorch's,
    else Flax's. Without a connection, what was downloaded before is taken.

    Args:
        handle: string. `hf://ORG/NAME`, or `hf://ORG/NAME@REVISION`.

    Returns:
        The directory.

    Raises:
        UserError: If there is no such repository or revision, it cannot be had, or it
            holds no model.

    Example:

    ```python
    download("hf://sentence-transformers/all-MiniLM-L6-v2@main")
    ```
    """
    name, _, revision = handle.removeprefix(SCHEME).partition("@")
    if not looks_like_repository(name):
        raise UserError(
            f"{shown_path(handle)}: expected {SCHEME}ORG/NAME or {SCHEME}ORG/NAME@REV"
        )
    first = [*_SMALL_FILES, *_KERAS_HUB_WEIGHTS]
    directory = _fetch(handle, name, revision, first)
    if not is_there(directory / "config.json") and not _modules(directory):
        raise UserError(f"{handle} holds no model: it has no config.json")
    if any(any(directory.glob(pattern)) for pattern in _KERAS_HUB_WEIGHTS):
        return directory
    if not _modules(directory):
        _check_has_no_modules(handle, name, revision, directory)
    for file in WEIGHT_FILES:
        stem, _, suffix = file.rpartition(".")
        parts = f"{stem}-*-of-*.{suffix}"
        directory = _fetch(handle, name, revision, [*first, file, parts])
        if any(directory.rglob(file)) or any(directory.rglob(parts)):
            return directory
    raise UserError(
        f"{handle} holds no weights: expected one of {', '.join(WEIGHT_FILES)}"
    )


def _modules(directory: Path) -> bool:
    return is_there(directory / MODULES)


def _check_has_no_modules(
    handle: str, name: str, revision: str, directory: Path
) -> None:
    """Without a connection, what was downloaded before may be a part alone.

    Another library may have fetched what it needs itself. That a repository does not
    have a file is noted in the cache, too, once somebody has asked for it.
    """
    from huggingface_hub import (
        _CACHED_NO_EXIST,
        HfApi,
        errors,
        hf_hub_download,
        try_to_load_from_cache,
    )

    place: dict[str, Any] = {
        "repo_id": name,
        "filename": MODULES,
        "revision": revision or "main",
    }
    if try_to_load_from_cache(**place) is _CACHED_NO_EXIST:
        return
    try:
        # At once, where the download itself would try for long to reach the hub.
        HfApi().file_exists(**place)
        hf_hub_download(**place, library_name="simcse_tf")
    # See `_fetch`.
    except Exception as error:
        if isinstance(error, errors.EntryNotFoundError) and not isinstance(
            error, errors.LocalEntryNotFoundError
        ):
            return
        raise UserError(
            f"cannot load {handle}: without the hub it cannot be told whether it has a "
            f"{MODULES}, which decides the pooling; connect once, or give {directory} "
            "if it is whole"
        ) from None


def _fetch(handle: str, name: str, revision: str, patterns: list[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        directory = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=patterns,
            ignore_patterns=_OTHER_RUNTIMES,
            library_name="simcse_tf",
        )
    except errors.GatedRepoError:
        reason = "it is gated: accept its terms at the hub and set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        reason = "there is no such repository, or it is private and HF_TOKEN not set"
    except errors.RevisionNotFoundError:
        reason = f"it has no revision {revision or 'main'!r}"
    except errors.LocalEntryNotFoundError:
        reason = "the hub cannot be reached, and it was not downloaded before"
    # Without an answer of the hub: the HTTP library that raises depends on the
    # version of huggingface_hub.
    except Exception as error:
        reason = f"the download failed: {type(error).__name__}: {error}"
    else:
        return Path(directory)
    raise UserError(f"cannot load {handle}: {reason}")
