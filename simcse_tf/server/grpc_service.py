"""TF Serving's gRPC services over a catalog of loaded models."""

import contextlib
import time
from collections.abc import AsyncIterator

import grpc
from google.protobuf import message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from simcse_tf.server import descriptions, rejections, tensors
from simcse_tf.server.catalog import Catalog
from simcse_tf.server.descriptions import SIGNATURE_DEF
from simcse_tf.server.scheduler import Arrays
from simcse_tf.server.servable import signature_name

# Details travel in the response's trailers, which clients limit to a few KB.
LONGEST_DETAILS = 1024

# TensorFlow's error codes and gRPC's are the same numbers.
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


def add_services(server: grpc.aio.Server, catalog: Catalog) -> None:
    """Registers `PredictionService` and `ModelService` on a server.

    Args:
        server: A `grpc.aio` server that is not started yet.
        catalog: The models to answer for.
    """
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(catalog), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        ModelService(catalog), server
    )


def to_status(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Maps an exception to what the client is told.

    Args:
        error: TensorFlow's errors keep their own code; anything else is a
            failure of the server, INTERNAL.

    Returns:
        The gRPC code and at most 1,024 bytes of details.
    """
    number, details = rejections.describe(error)
    code = STATUS_CODES.get(number, grpc.StatusCode.UNKNOWN)
    return code, details.encode()[:LONGEST_DETAILS].decode(errors="ignore")


async def _refuse(
    service: object, request: message.Message, context: grpc.aio.ServicerContext
) -> None:
    await context.abort(
        grpc.StatusCode.UNIMPLEMENTED,
        "the Python server offers Predict, GetModelMetadata and GetModelStatus",
    )


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """`Predict` and `GetModelMetadata`, as TF Serving answers them.

    Args:
        catalog: The models to answer for.
    """

    def __init__(self, catalog: Catalog):
        self._catalog = catalog

    async def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs one signature of one model version."""
        async with _telling_errors(context):
            _check_model_spec(request)
            with self._catalog.lease(request.model_spec) as servable:
                outputs = await servable.run(request, _deadline(context))
                return _response(request, servable.version, outputs)

    async def GetModelMetadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.aio.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Describes the signatures of one model version."""
        async with _telling_errors(context):
            _check_model_spec(request)
            _check_metadata_fields(list(request.metadata_field))
            return descriptions.metadata(self._catalog, request.model_spec)

    Classify = Regress = MultiInference = _refuse


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """`GetModelStatus`, as TF Serving answers it.

    Args:
        catalog: The models to answer for.
    """

    def __init__(self, catalog: Catalog):
        self._catalog = catalog

    async def GetModelStatus(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.aio.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Lists the versions that are loaded, or the one asked for."""
        async with _telling_errors(context):
            _check_model_spec(request)
            return descriptions.status(self._catalog, request.model_spec)

    HandleReloadConfigRequest = _refuse


@contextlib.asynccontextmanager
async def _telling_errors(context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
    try:
        yield
    except Exception as error:
        await context.abort(*to_status(error))


def _deadline(context: grpc.aio.ServicerContext) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def _response(
    request: predict_pb2.PredictRequest, version: int, outputs: Arrays
) -> predict_pb2.PredictResponse:
    response = predict_pb2.PredictResponse()
    spec = response.model_spec
    spec.name = request.model_spec.name
    spec.version.value = version
    spec.signature_name = signature_name(request)
    for name, array in outputs.items():
        response.outputs[name].CopyFrom(tensors.to_proto(array))
    return response


def _check_model_spec(request: message.Message) -> None:
    if not request.HasField("model_spec"):
        raise rejections.invalid("Missing ModelSpec")


def _check_metadata_fields(fields: list[str]) -> None:
    if not fields:
        raise rejections.invalid(
            "GetModelMetadataRequest must specify at least one metadata_field",
        )
    for field in fields:
        if field != SIGNATURE_DEF:
            raise rejections.invalid(f"Metadata field {field} is not supported")
