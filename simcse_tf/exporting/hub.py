"""A written model directory to the Hugging Face hub."""

from pathlib import Path

from simcse_tf.core.errors import UserError


def check_push(name: str) -> None:
    """Checks what can be checked of a push before the model is exported.

    Args:
        name: string. `ORG/NAME`.

    Raises:
        UserError: If the hub has no such names, or there is no token for it.

    Example:

    ```python
    check_push("org/mine")
    ```
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        name_is_valid = False
    else:
        name_is_valid = "/" in name
    if not name_is_valid:
        raise UserError(f"--push: expected ORG/NAME, received {name}")
    if huggingface_hub.get_token() is None:
        raise UserError(
            "--push: no token for the hub: expected HF_TOKEN, or one of hf auth login"
        )


def push(directory: Path, name: str, private: bool = False) -> str:
    """Uploads a directory as one commit; the repository is made if need be.

    Args:
        directory: What `export --format sentence-transformers` wrote.
        name: string. `ORG/NAME`.
        private: bool. Whether a new repository is private. One that is there stays
            as it is. Defaults to `False`.

    Returns:
        string. The address of the commit.

    Raises:
        UserError: If the hub does not take it; the message has its reason.

    Example:

    ```python
    push(Path("models/mine"), "org/mine")
    ```
    """
    check_push(name)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(library_name="simcse_tf")
    try:
        # Without a wish for one, an organization's default decides.
        api.create_repo(name, private=private or None, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name,
            folder_path=directory,
            commit_message="A sentence encoder from simcse_tf",
        )
    except HfHubHTTPError as error:
        raise _refused(directory, name, _reason(error)) from None
    # What is not an answer of the hub: no connection, a file that cannot be read.
    # The HTTP library that raises it depends on huggingface_hub's version.
    except Exception as error:
        raise _refused(directory, name, str(error) or type(error).__name__) from error
    return str(commit.commit_url)


def _refused(directory: Path, name: str, reason: str) -> UserError:
    return UserError(
        f"--push {name}: {reason}; {directory} is complete, and "
        f"hf upload {name} {directory} . pushes it as well"
    )


def _reason(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "the hub does not know the token (HF_TOKEN, or hf auth login)"
    if status == 403:
        return "the token may not write there"
    # The hub's own words, without the identifiers of the request.
    said = getattr(error, "server_message", None)
    return f"the hub answered {status}: {said or str(error).splitlines()[0]}"
