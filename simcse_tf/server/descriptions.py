"""Describes the models of a server: which versions, with which signatures."""

from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
)

from simcse_tf.server.catalog import Catalog, status_code

SIGNATURE_DEF = "signature_def"  # the one metadata field that there is


def status(
    catalog: Catalog, spec: model_pb2.ModelSpec
) -> get_model_status_pb2.GetModelStatusResponse:
    """Lists the versions that are or were loaded, or the one that is asked for.

    Args:
        catalog: The models to answer for.
        spec: Model name and, optionally, a version or a label.

    Returns:
        One status for every version, newest first.

    Raises:
        tf.errors.OpError: No such model or version.

    Example:
    ```python
    status(catalog, model_pb2.ModelSpec(name="simcse")).model_version_status
    ```
    """
    response = get_model_status_pb2.GetModelStatusResponse()
    for version in catalog.statuses(spec):
        status = response.model_version_status.add(
            version=version.number, state=version.state
        )
        status.status.error_code = status_code(version)
        status.status.error_message = version.error
    return response


def metadata(
    catalog: Catalog, spec: model_pb2.ModelSpec
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Describes the signatures of one model version.

    Args:
        catalog: The models to answer for.
        spec: Model name and, optionally, a version.

    Returns:
        The version, and its signatures as a packed `SignatureDefMap`.

    Raises:
        tf.errors.OpError: No such model or version.

    Example:
    ```python
    metadata(catalog, model_pb2.ModelSpec(name="simcse")).metadata[SIGNATURE_DEF]
    ```
    """
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with catalog.lease(spec) as servable:
        signatures = get_model_metadata_pb2.SignatureDefMap(
            signature_def=servable.signature_defs
        )
        response.model_spec.name = spec.name
        response.model_spec.version.value = servable.version
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response
