"""The packages that only a part of `simcse_tf` needs: `simcse-tf[eval]`."""

from importlib.util import find_spec

from simcse_tf.core.errors import UserError


def require(*modules: str) -> None:
    """Raises an error that says how to install a missing optional package.

    Nothing is imported, so this takes no time at the start of a command line.

    Args:
        modules: Names that are imported, such as `"sklearn"`.

    Raises:
        UserError: If one of them is not installed.

    Example:

    ```python
    require("sklearn")
    ```
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise UserError(
            f"this needs {', '.join(missing)}, which an optional extra brings: "
            'pip install "simcse-tf[eval]"'
        )
