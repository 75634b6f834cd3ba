"""Which version directories a base directory holds. Needs no TensorFlow."""

from pathlib import Path

from simcse_tf.errors import UserError

LARGEST_VERSION = 2**63 - 1  # the protocol carries versions as int64


def newest_version(base_path: Path) -> tuple[int, Path]:
    """Finds the highest version in a base directory.

    A version is a directory whose name is a number and which holds a
    `saved_model.pb`; a directory without one is still being written.

    Args:
        base_path: The directory that holds the version directories.

    Returns:
        The version's number and its directory.

    Raises:
        UserError: `base_path` is not a directory or holds no version.
    """
    if not base_path.is_dir():
        raise UserError(f"--model_base_path: no such directory: {base_path}")
    try:
        versions = [child for child in base_path.iterdir() if _is_version(child)]
    except OSError as error:
        raise UserError(
            f"--model_base_path: cannot read {base_path}: {error}"
        ) from error
    if not versions:
        raise UserError(_no_version(base_path))
    newest = max(versions, key=lambda child: int(child.name))
    return int(newest.name), newest


def _is_version(path: Path) -> bool:
    name = path.name
    if not (name.isascii() and name.isdecimal() and int(name) <= LARGEST_VERSION):
        return False
    return (path / "saved_model.pb").is_file()


def _no_version(base_path: Path) -> str:
    if (base_path / "saved_model.pb").is_file():
        return (
            f"--model_base_path: {base_path} is itself a SavedModel, expected the "
            f"directory above it, whose subdirectories are numbered versions"
        )
    return (
        f"--model_base_path: no version in {base_path}, expected numbered "
        f"directories with a saved_model.pb inside, such as "
        f"{base_path / '1' / 'saved_model.pb'}"
    )
