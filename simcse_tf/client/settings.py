"""Which settings a client takes."""

from simcse_tf.core.errors import UserError


def check_settings(
    timeout: float,
    batch_size: int,
    concurrency: int,
    version: int | None,
    label: str | None,
) -> None:
    """Checks a client's settings.

    Args:
        timeout: See `AsyncClient`, also for the others.
        batch_size: int.
        concurrency: int.
        version: Optional int.
        label: Optional string.

    Raises:
        UserError: One is out of range, or there are both a version and a label.

    Example:
    ```python
    check_settings(60.0, 64, 8, None, "stable")
    ```
    """
    for name, number in (("batch_size", batch_size), ("concurrency", concurrency)):
        if number < 1:
            raise UserError(f"{name}: expected 1 or more, received {number}")
    if not timeout > 0:
        raise UserError(f"timeout: expected more than 0, received {timeout}")
    if version is not None and label is not None:
        raise UserError(
            f"expected a version or a label, received {version} and {label!r}"
        )
