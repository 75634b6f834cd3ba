"""The committed message classes are those of the .proto files."""

import re
from importlib import import_module

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from packaging.version import Version
from support.models import ROOT

PROTOS = sorted((ROOT / "simcse_tf").rglob("*.proto"))
PACKAGE = re.compile(r"^package ([\w.]+);$", re.M)
MESSAGE = re.compile(r"^message (\w+) \{\n(.*?)^\}", re.M | re.S)
FIELD = re.compile(r"^  (repeated )?([\w.]+) (\w+) = (\d+);\n", re.M)
SCALARS = {
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_INT32: "int32",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_STRING: "string",
}


def written(text):
    """The messages of a .proto file, for the few forms that ours are written in."""
    messages = {}
    for name, body in MESSAGE.findall(text):
        assert FIELD.sub("", body) == "", f"{name} has a line that is not a field"
        messages[name] = {
            (field, int(number), kind, bool(repeated))
            for repeated, kind, field, number in FIELD.findall(body)
        }
    return messages


def generated(file):
    """The same of a generated module's descriptor."""

    def kind(field):
        name = field.type_name.removeprefix(".").removeprefix(f"{file.package}.")
        return name or SCALARS[field.type]

    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    repeated = FieldDescriptorProto.LABEL_REPEATED
    return {
        message.name: {
            (field.name, field.number, kind(field), field.label == repeated)
            for field in message.field
        }
        for message in proto.message_type
    }


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.name)
def test_generated_messages_are_those_of_the_proto_file(path):
    text = path.read_text()
    name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    file = import_module(f"{name}_pb2").DESCRIPTOR
    assert [file.package] == PACKAGE.findall(text)
    assert generated(file) == written(text)


def test_generated_code_runs_with_the_oldest_protobuf_that_is_allowed():
    allowed = re.search(r'"protobuf>=([\d.]+)', (ROOT / "setup.py").read_text())[1]
    assert len(PROTOS) == 2
    for path in PROTOS:
        code = path.with_name(f"{path.stem}_pb2.py").read_text()
        [protoc] = re.findall(r"^# Protobuf Python Version: (\S+)$", code, re.M)
        assert Version(protoc) <= Version(allowed)
