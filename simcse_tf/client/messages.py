"""The part of TF Serving's protocol that a client of embeddings needs.

`tensorflow-serving-api` has all of it, and imports TensorFlow: seconds and hundreds
of megabytes, for messages alone. These classes are the same on the wire. They live in
a pool of their own, so that a program may use both.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

_PACKAGE = "simcse_tf.client"
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bytes": _FIELD.TYPE_BYTES,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "string": _FIELD.TYPE_STRING,
}

# Name, number and type of each field; a star is `repeated`. On the wire, an enum is an
# int32, a map is a repeated message of key and value, and packed floats are bytes: as
# such they become an array without a Python object for each number.
_SCHEMA = {
    "Int64Value": {"value": (1, "int64")},
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, "Int64Value"),
        "signature_name": (3, "string"),
        "version_label": (4, "string"),
    },
    "Dimension": {"size": (1, "int64")},
    "TensorShape": {"dim": (2, "Dimension*")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShape"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "bytes"),
        "int_val": (7, "int32*"),
        "string_val": (8, "bytes*"),
    },
    "NamedTensor": {"key": (1, "string"), "value": (2, "Tensor")},
    "PredictRequest": {
        "model_spec": (1, "ModelSpec"),
        "inputs": (2, "NamedTensor*"),
        "output_filter": (3, "string*"),
    },
    "PredictResponse": {
        "outputs": (1, "NamedTensor*"),
        "model_spec": (2, "ModelSpec"),
    },
    "ModelVersionStatus": {"version": (1, "int64"), "state": (2, "int32")},
    "GetModelStatusRequest": {"model_spec": (1, "ModelSpec")},
    "GetModelStatusResponse": {"model_version_status": (1, "ModelVersionStatus*")},
    "TensorInfo": {"dtype": (2, "int32"), "tensor_shape": (3, "TensorShape")},
    "NamedTensorInfo": {"key": (1, "string"), "value": (2, "TensorInfo")},
    "Signature": {
        "inputs": (1, "NamedTensorInfo*"),
        "outputs": (2, "NamedTensorInfo*"),
    },
    "NamedSignature": {"key": (1, "string"), "value": (2, "Signature")},
    "Signatures": {"signature_def": (1, "NamedSignature*")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "NamedAny": {"key": (1, "string"), "value": (2, "Any")},
    "GetModelMetadataRequest": {
        "model_spec": (1, "ModelSpec"),
        "metadata_field": (2, "string*"),
    },
    "GetModelMetadataResponse": {"metadata": (2, "NamedAny*")},
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="simcse_tf/client.proto", package=_PACKAGE, syntax="proto3"
    )
    for message, fields in _SCHEMA.items():
        descriptor = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            _add_field(descriptor.field.add(name=name, number=number), kind)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
        )
        for name in _SCHEMA
    }


def _add_field(field: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    repeated = kind.endswith("*")
    kind = kind.removesuffix("*")
    field.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"


_MESSAGES = _classes()
ModelSpec = _MESSAGES["ModelSpec"]
Tensor = _MESSAGES["Tensor"]
PredictRequest = _MESSAGES["PredictRequest"]
PredictResponse = _MESSAGES["PredictResponse"]
GetModelStatusRequest = _MESSAGES["GetModelStatusRequest"]
GetModelStatusResponse = _MESSAGES["GetModelStatusResponse"]
GetModelMetadataRequest = _MESSAGES["GetModelMetadataRequest"]
GetModelMetadataResponse = _MESSAGES["GetModelMetadataResponse"]
Signatures = _MESSAGES["Signatures"]
