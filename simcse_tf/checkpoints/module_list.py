"""The modules of a sentence-transformers directory, and whether its list is whole."""

from pathlib import Path, PurePosixPath
from typing import NamedTuple

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, shortened
from simcse_tf.core.regular_files import is_there

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
TRANSFORMER_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta")
)
_CLASSIC = "sentence_transformers.models."
_PACKAGE = "sentence_transformers"


class Module(NamedTuple):
    """One module.

    Attributes:
        kind: string. Its class, with the package.
        path: Its directory.
    """

    kind: str
    path: Path

    @property
    def name(self) -> str:
        """The class alone, if it is one of sentence-transformers."""
        package, _, name = self.kind.rpartition(".")
        # Whatever else it is, it is code that comes with the model.
        return name if package.partition(".")[0] == _PACKAGE else self.kind


def read_module_list(directory: Path, pooling: str | None = None) -> list[Module]:
    """Reads `modules.json`, or finds the modules without it.

    Args:
        directory: A directory of sentence-transformers, or a plain one of transformers.
        pooling: Optional string. A pooling of the user's own: what is behind the
            encoder then does not count.

    Returns:
        The modules, the encoder first.

    Raises:
        UserError: If the list is broken, or a file is missing that always is beside it.

    Example:

    ```python
    [module.name for module in read_module_list(Path("path/to/minilm"))]
    # ["Transformer", "Pooling", "Normalize"]
    ```
    """
    path = directory / MODULES
    if not is_there(path):
        return _without_list(directory, pooling)
    modules = read_json(path)
    try:
        listed = [(str(each["type"]), str(each["path"])) for each in modules]
    except (TypeError, KeyError):
        listed = []
    if not listed:
        raise UserError(f"{path}: expected a list of modules with type and path")
    for _, place in listed:
        parts = PurePosixPath(place)
        if parts.is_absolute() or ".." in parts.parts:
            raise UserError(
                f"{path}: {shortened(place)!r} is no directory within the model's"
            )
    found = [Module(kind, directory / place) for kind, place in listed]
    _check_whole(directory, found[0])
    return found


def _check_whole(directory: Path, encoder: Module) -> None:
    """The files that hold length and prompts are always written with the list."""
    if encoder.name != "Transformer":
        return
    if not any(is_there(encoder.path / name) for name in TRANSFORMER_CONFIGS):
        raise UserError(
            f"{encoder.path / TRANSFORMER_CONFIGS[0]} is missing, which says where "
            'texts are cut: copy it too, or write {"max_seq_length": N} into it'
        )
    # Models in the classic form may come from others, without it.
    if not encoder.kind.startswith(_CLASSIC) and not is_there(directory / PROMPTS):
        raise UserError(
            f"{directory / PROMPTS} is missing, which holds the prompts: copy it too"
        )


def _without_list(directory: Path, pooling: str | None) -> list[Module]:
    """A plain encoder, or one whose pooling alone is there too."""
    found = [Module(f"{_CLASSIC}Transformer", directory)]
    others = [
        path.name
        for path in sorted(directory.glob("[0-9]*_*"))
        if path.is_dir() and not path.name.endswith(("1_Pooling", "_Normalize"))
    ]
    of_sentences = [PROMPTS, *TRANSFORMER_CONFIGS]
    if is_there(directory / "1_Pooling" / "config.json"):
        found.append(Module(f"{_CLASSIC}Pooling", directory / "1_Pooling"))
    else:
        others += [name for name in of_sentences if is_there(directory / name)]
    if others and pooling is None:
        raise UserError(
            f"{directory / MODULES} is missing, and there is {others[0]}, which it "
            "gives a place: copy it too, or choose a pooling with --pooling"
        )
    return found
