"""A model server without TensorFlow, which tests can make do anything."""

import contextlib
import hashlib
from concurrent import futures

import grpc
import numpy as np

from simcse_tf.client import messages_pb2, protocol
from simcse_tf.client.responses import DTYPES

MAX_LENGTH = 16
DIM = 8
SIGNATURES = {
    "serving_default": DIM,
    "serving_tokens": DIM,
    "serving_query_tokens": DIM,
    "serving_document_tokens": DIM,
    "serving_4": 4,
}
NUMBERS = {name: number for number, name in DTYPES.items()}


def embed(texts, version=1, prompt="serving_tokens") -> np.ndarray:
    """Embeddings that differ for every text, version and signature."""
    rows = []
    for text in texts:
        encoded = text if isinstance(text, bytes) else text.encode()
        digest = hashlib.sha256(b"%d %b %b" % (version, prompt.encode(), encoded))
        rows.append(np.frombuffer(digest.digest()[:DIM], np.int8))
    array = np.array(rows, np.float32).reshape(-1, DIM) + 0.5
    return array / np.linalg.norm(array, axis=1, keepdims=True)


class FakeTarget(grpc.GenericRpcHandler):
    """Answers `Predict` and `GetModelMetadata`.

    `before(number, texts, context)` may wait, refuse, or change `version`.
    """

    def __init__(self, before=None, signatures=None, most_rows=64):
        self.before = before or (lambda number, texts, context: None)
        self.signatures = SIGNATURES if signatures is None else signatures
        self.most_rows = most_rows
        self.version = 1
        self.sizes = []  # of each request
        self.tokens = []  # that clients have sent

    def predict(self, request, context):
        texts = list(request.inputs[0].value.string_val)
        self.sizes.append(len(texts))
        self.tokens.append(dict(context.invocation_metadata()).get("authorization"))
        name = request.model_spec.signature_name
        if len(texts) > self.most_rows:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"Task size {len(texts)} is larger than maximum input batch size "
                f"{self.most_rows}",
            )
        version = self.version
        self.before(len(self.sizes), texts, context)
        lengths = np.array([len(text) + 2 for text in texts], np.int32)
        outputs = {
            "embedding": embed(texts, version, name),
            "tokens": np.minimum(lengths, MAX_LENGTH),
            "truncated": lengths > MAX_LENGTH,
        }
        response = messages_pb2.PredictResponse()
        response.model_spec.version.value = version
        for key in request.output_filter or outputs:
            tensor = response.outputs.add(key=key).value
            tensor.dtype = NUMBERS[outputs[key].dtype.name]
            tensor.tensor_content = outputs[key].tobytes()
            for size in outputs[key].shape:
                tensor.tensor_shape.dim.add(size=size)
        return response

    def metadata(self, request, context):
        signatures = messages_pb2.Signatures()
        for name, width in self.signatures.items():
            output = signatures.signature_def.add(key=name).value.outputs.add()
            output.key, output.value.dtype = "embedding", NUMBERS["float32"]
            for size in (-1, width):
                output.value.tensor_shape.dim.add(size=size)
        response = messages_pb2.GetModelMetadataResponse()
        packed = response.metadata.add(key=protocol.SIGNATURE_DEF).value
        packed.value = signatures.SerializeToString()
        return response

    def service(self, handler_call_details):
        methods = {
            protocol.PREDICT: (self.predict, messages_pb2.PredictRequest),
            protocol.GET_MODEL_METADATA: (
                self.metadata,
                messages_pb2.GetModelMetadataRequest,
            ),
        }
        if handler_call_details.method not in methods:
            return None
        behavior, request = methods[handler_call_details.method]
        return grpc.unary_unary_rpc_method_handler(
            behavior,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )


@contextlib.contextmanager
def serving(target, port=0, credentials=None):
    """Serves it; yields the address."""
    server = grpc.server(
        futures.ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)]
    )
    server.add_generic_rpc_handlers([target])
    address = f"localhost:{port}" if credentials else f"127.0.0.1:{port}"
    if credentials:
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    server.start()
    try:
        yield f"{address.rpartition(':')[0]}:{port}"
    finally:
        server.stop(None).wait()
