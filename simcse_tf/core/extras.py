"""The packages that only a part of `simcse_tf` needs, in extras: `simcse-tf[eval]`."""

from importlib.util import find_spec

from simcse_tf.core.errors import UserError


def require(*modules: str, extra: str = "eval") -> None:
    """Raises an error that says how to install a missing optional package.

    None of them is imported, so this takes no time at the start of a command line.

    Args:
        modules: Names that are imported, such as `"sklearn"`.
        extra: string. The extra that brings them. Defaults to `"eval"`.

    Raises:
        UserError: If one of them is not installed.

    Example:

    ```python
    require("sklearn")
    ```
    """
    missing = [module for module in modules if not _is_there(module)]
    if missing:
        raise UserError(
            f"this needs {', '.join(missing)}, which an optional extra brings: "
            f'pip install "simcse-tf[{extra}]"'
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # what it would be in
        return False
