"""Whether a version's files can be read, and are as `export` wrote them.

Needs no TensorFlow. TensorFlow itself waits for ever where a file is a pipe, and loads
a graph in which a bit has flipped.
"""

from pathlib import Path

from simcse_tf.core.contents import check_hashes, check_kinds, contents_of
from simcse_tf.core.json_files import read_json

# Beside saved_model.pb; TF Serving ignores files that it does not know.
MANIFEST_FILE = "manifest.json"
# The manifest's name in older exports; presets have another file of that name.
OLD_MANIFEST_FILE = "simcse.json"


def check_files(version: Path) -> None:
    """Checks a version's files before TensorFlow opens them.

    They are compared with the hashes of the manifest, where there is one.

    Args:
        version: The version's directory.

    Raises:
        UserError: If something is neither file nor directory, or a file is not as it
            was written.

    Example:

    ```python
    check_files(Path("exports/simcse/1"))
    ```
    """
    contents = contents_of(version)
    check_kinds(contents)
    if hashes := _written(version):
        check_hashes(version, contents.files, hashes)


def manifest_path(version: Path) -> Path:
    """Where an export's manifest is: `manifest.json`, `simcse.json` in older exports.

    Example:

    ```python
    manifest_path(Path("exports/simcse/1"))  # exports/simcse/1/manifest.json
    ```
    """
    old = version / OLD_MANIFEST_FILE
    new = version / MANIFEST_FILE
    return old if old.is_file() and not new.is_file() else new


def _written(version: Path) -> dict[str, str]:
    """The manifest's hashes by file; none where another program wrote the model."""
    path = manifest_path(version)
    manifest = read_json(path) if path.is_file() else None
    hashes = manifest.get("files") if isinstance(manifest, dict) else None
    return {**hashes} if isinstance(hashes, dict) else {}
