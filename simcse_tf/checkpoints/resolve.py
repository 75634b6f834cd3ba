"""What a MODEL argument names: a directory, or a preset of KerasHub."""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

from simcse_tf.checkpoints import hub
from simcse_tf.checkpoints.module_list import MODULES
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, shown
from simcse_tf.core.regular_files import is_there, shown_path

PACKAGE_SCHEME = "package://"
FILE_SCHEME = "file://"
CONFIG = "config.json"


def resolve(model: str) -> str:
    """Turns a MODEL argument into a directory, or what KerasHub's `from_preset` takes.

    Args:
        model: string. A local directory, also as `file://PATH`,
            `package://PACKAGE/PATH` for one inside an installed package,
            `hf://ORG/NAME[@REVISION]` for a repository of the Hugging Face hub, which
            is downloaded, or a KerasHub preset's name or handle.

    Returns:
        string. A directory's path, or KerasHub's name or handle unchanged.

    Raises:
        UserError: If there is no such directory, package, repository or preset.

    Example:

    ```python
    resolve("bert_base_en_uncased")  # unchanged: KerasHub knows it
    resolve("hf://org/name")  # the directory that it was downloaded to
    ```
    """
    if model.startswith(PACKAGE_SCHEME):
        return str(_package_directory(model))
    if model.startswith(hub.SCHEME):
        return str(hub.download(model))
    model = model.removeprefix(FILE_SCHEME)
    if _is_directory(model):
        if not _holds_model(Path(model)):
            raise UserError(
                f"{model} holds no model: expected a {CONFIG} in it, as train, "
                "KerasHub and Hugging Face write"
            )
        return model
    if "://" in model or model in _keras_hub_presets():
        return model
    hint = ""
    if hub.looks_like_repository(model):
        hint = f"; a repository of the Hugging Face hub is {hub.SCHEME}{model}"
    raise UserError(
        f"no model {shown_path(model)!r}: expected a directory, a KerasHub preset such "
        "as bert_base_en_uncased, a handle (kaggle://, hf://) or package://PACKAGE/PATH"
        f"{hint}"
    )


def is_keras_hub(preset: str) -> bool:
    """Whether something is in KerasHub's own format.

    Args:
        preset: string. What `resolve` returned.

    Raises:
        UserError: If its config cannot be read.

    Example:

    ```python
    is_keras_hub("bert_base_en_uncased")  # True
    ```
    """
    if not Path(preset).is_dir():
        return True
    path = Path(preset, CONFIG)
    # In Hugging Face's layout of modules the encoder's config may stand below.
    config = read_json(path) if is_there(path) else {}
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected a JSON object, received {shown(config)}")
    return "registered_name" in config


def _keras_hub_presets() -> dict[str, object]:
    import keras_hub

    return dict(keras_hub.models.Backbone.presets)


def _holds_model(directory: Path) -> bool:
    # In a sentence-transformers directory the encoder may stand in one of its own.
    return any(is_there(directory / name) for name in (CONFIG, MODULES))


def _is_directory(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError as error:
        raise UserError(f"no model {shown_path(path)}: {error.strerror}") from None


def _package(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name) if name.isidentifier() else None
    # What is loaded already may have no spec, such as __main__.
    except (ValueError, ImportError, AttributeError):
        return None


def _package_directory(model: str) -> Path:
    package, _, path = model.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = _package(package)
    places = [*(spec.submodule_search_locations or ())] if spec else []
    shown = shown_path(model)
    if not places:
        raise UserError(f"{shown}: no package {shown_path(package)!r} is installed")
    # A namespace package may be in several places.
    for place in places:
        if _holds_model(Path(place, path)):
            return Path(place, path)
    raise UserError(f"{shown}: no model ({CONFIG}) in it, in {places[0]}")
