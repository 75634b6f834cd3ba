"""Packages that only some commands need, told in one line where they are missing."""

import importlib.util

from simcse_tf.errors import UserError


def require(*modules: str) -> None:
    """Checks that optional packages are installed, before any work begins.

    Args:
        *modules: Names as they are imported, such as `"sklearn"`.

    Raises:
        UserError: If one is missing; it says how to install it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{', '.join(missing)} not installed: "
            "`pip install 'simcse-tf[eval]'` brings what this needs"
        )
