"""TF Serving's gRPC services over a catalog of loaded models."""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import grpc
from google.protobuf import message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from simcse_tf.core.request_context import note
from simcse_tf.server import channel_arguments, descriptions, status_errors, tensors
from simcse_tf.server.admission import AdmissionInterceptor
from simcse_tf.server.catalog import Catalog
from simcse_tf.server.channel_arguments import Arguments
from simcse_tf.server.descriptions import SIGNATURE_DEF
from simcse_tf.server.observed_requests import ObservingInterceptor
from simcse_tf.server.rare_lines import RareLines
from simcse_tf.server.reloading import Reloading
from simcse_tf.server.request_metrics import RequestMetrics, counted
from simcse_tf.server.scheduler import Arrays
from simcse_tf.server.security import TokenInterceptor
from simcse_tf.server.servable import signature_name

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

REFUSED = {
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
}

# Details travel in the response's trailers, which clients limit to a few KB.
LONGEST_DETAILS = 1024

# TensorFlow's error codes and gRPC's are the same numbers.
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}

Method = Callable[[Any, grpc.aio.ServicerContext], Awaitable[message.Message]]


def make_server(
    catalog: Catalog,
    metrics: RequestMetrics | None = None,
    arguments: Arguments | None = None,
    token: str | None = None,
    reloading: Reloading | None = None,
    log_requests: bool = False,
) -> grpc.aio.Server:
    """Makes a server of TF Serving's services, with limits on what clients may cost.

    Args:
        catalog: The models to answer for.
        metrics: Receives each prediction.
        arguments: gRPC's settings; `channel_arguments.with_defaults({})` by default.
        token: The token that clients have to send; None accepts all clients.
        reloading: Takes over the configs that clients send; None refuses them.
        log_requests: Whether each request gets a line in the log.

    Returns:
        A server that has no port yet and is not started.

    Example:
    ```python
    server = make_server(Catalog(model))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ```
    """
    interceptors: list[grpc.aio.ServerInterceptor] = [AdmissionInterceptor()]
    if token is not None:  # first, so that a stranger takes nobody's room
        interceptors.insert(0, TokenInterceptor(token))
    interceptors.insert(0, ObservingInterceptor(log_requests))
    if arguments is None:
        arguments = channel_arguments.with_defaults({})
    server = grpc.aio.server(options=[*arguments.items()], interceptors=interceptors)
    add_services(server, catalog, metrics, reloading)
    return server


def add_services(
    server: grpc.aio.Server,
    catalog: Catalog,
    metrics: RequestMetrics | None = None,
    reloading: Reloading | None = None,
) -> None:
    """Registers TF Serving's services on a server.

    `Classify`, `Regress` and `MultiInference` say that an embedding model has no such
    signature. Methods that TF Serving does not have are UNIMPLEMENTED.

    Args:
        server: A `grpc.aio` server that is not started yet.
        catalog: The models to answer for.
        metrics: Receives each prediction.
        reloading: As for `make_server`.

    Example:
    ```python
    server = grpc.aio.server()
    add_services(server, Catalog(model))
    ```
    """
    logger = logging.getLogger("grpc._cython.cygrpc")
    logger.addFilter(_is_of_interest)
    logger.addFilter(RareLines())
    service = ModelServer(catalog, metrics, reloading)
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                PREDICTION_SERVICE,
                {
                    "Predict": _handler(predict_pb2.PredictRequest, service.predict),
                    "GetModelMetadata": _handler(
                        get_model_metadata_pb2.GetModelMetadataRequest, service.metadata
                    ),
                    **{
                        method: _handler(kind, partial(service.refuse, method))
                        for method, kind in REFUSED.items()
                    },
                },
            ),
            grpc.method_handlers_generic_handler(
                MODEL_SERVICE,
                {
                    "GetModelStatus": _handler(
                        get_model_status_pb2.GetModelStatusRequest, service.status
                    ),
                    "HandleReloadConfigRequest": _handler(
                        model_management_pb2.ReloadConfigRequest, service.reload
                    ),
                },
            ),
        ]
    )


def to_status(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Maps an exception to the status that the client receives.

    Args:
        error: TensorFlow's errors keep their own code; anything else is a
            failure of the server, INTERNAL.

    Returns:
        The gRPC code and at most 1,024 bytes of details.

    Example:
    ```python
    to_status(status_errors.not_found("no model"))  # (NOT_FOUND, "no model")
    ```
    """
    number, details = status_errors.describe(error)
    code = STATUS_CODES.get(number, grpc.StatusCode.UNKNOWN)
    return code, details.encode()[:LONGEST_DETAILS].decode(errors="ignore")


class ModelServer:
    """The methods of TF Serving's services.

    Args:
        catalog: The models to answer for.
        metrics: Receives each prediction.
        reloading: Takes over the configs that clients send; None refuses them.

    Example:
    ```python
    response = await ModelServer(catalog).status(request, context)
    ```
    """

    def __init__(
        self,
        catalog: Catalog,
        metrics: RequestMetrics | None = None,
        reloading: Reloading | None = None,
    ):
        self._catalog = catalog
        self._metrics = metrics
        self._reloading = reloading

    async def predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs one signature of one model version."""
        _check_model_spec(request)
        spec = request.model_spec
        with (
            self._catalog.lease(spec) as servable,
            counted(self._metrics, spec.name, "GRPC"),
        ):
            outputs = await servable.run(request, _deadline(context))
            return _response(request, servable.version, outputs)

    async def metadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.aio.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Describes the signatures of one model version."""
        _check_model_spec(request)
        _check_metadata_fields(request.metadata_field)
        return descriptions.metadata(self._catalog, request.model_spec)

    async def status(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.aio.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Lists the versions that are loaded, or the one that is asked for."""
        _check_model_spec(request)
        return descriptions.status(self._catalog, request.model_spec)

    async def refuse(
        self, method: str, request: Any, context: grpc.aio.ServicerContext
    ) -> message.Message:
        """Says that the model neither classifies nor is a regression."""
        if method == "MultiInference" and not request.tasks:
            raise status_errors.invalid("Inference request must have at least one task")
        asked = request.tasks[0] if method == "MultiInference" else request
        with self._catalog.lease(asked.model_spec) as servable:
            raise servable.has_no("regress" if method == "Regress" else "classify")

    async def reload(
        self,
        request: model_management_pb2.ReloadConfigRequest,
        context: grpc.aio.ServicerContext,
    ) -> model_management_pb2.ReloadConfigResponse:
        """Takes over other versions and labels."""
        if self._reloading is None:
            raise status_errors.permission_denied(
                "strangers reach this server: it takes configs only with --token_file, "
                "client certificates or a loopback address"
            )
        self._reloading.reload(request.config)
        return model_management_pb2.ReloadConfigResponse()


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Leaves out tracebacks of clients that have left, or send no UTF-8 in headers."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, grpc.aio.InternalError | UnicodeDecodeError)


def _handler(
    request_type: type[message.Message], method: Method
) -> grpc.RpcMethodHandler:
    async def answer(received: bytes, context: grpc.aio.ServicerContext) -> Any:
        note(received_bytes=len(received))
        work = _outcome(request_type, method, received, context)
        # After an error gRPC keeps this frame for a while, without the message.
        del received
        outcome = await work
        if isinstance(outcome, bytes):
            return outcome
        return await context.abort(*outcome)  # raises

    return grpc.unary_unary_rpc_method_handler(answer)


async def _outcome(
    request_type: type[message.Message],
    method: Method,
    received: bytes,
    context: grpc.aio.ServicerContext,
) -> bytes | tuple[grpc.StatusCode, str]:
    try:
        response = await method(_decode(request_type, received), context)
        return response.SerializeToString()
    except Exception as error:
        return to_status(error)


def _decode(request_type: type[message.Message], received: bytes) -> message.Message:
    # Not by gRPC: its Python server answers UNKNOWN and logs a traceback, where
    # TF Serving's answers INTERNAL.
    try:
        return request_type.FromString(received)
    except message.DecodeError as error:
        raise status_errors.internal(str(error)) from error


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
        raise status_errors.invalid("Missing ModelSpec")


def _check_metadata_fields(fields: Iterable[str]) -> None:
    if not fields:
        raise status_errors.invalid(
            "GetModelMetadataRequest must specify at least one metadata_field",
        )
    for field in fields:
        if field != SIGNATURE_DEF:
            raise status_errors.invalid(f"Metadata field {field} is not supported")
