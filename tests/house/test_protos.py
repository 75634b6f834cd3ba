"""The committed message classes are those of the .proto files."""

import re
from importlib import import_module

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from packaging.version import Version
from support.models import ROOT

PROTOS = sorted((ROOT / "simcse_tf").rglob("*.proto"))
PACKAGE = re.compile(r"^package ([\w.]+);$", re.M)
# The few forms that ours are written in.
BEGIN = re.compile(r" *(message|enum) (\w+) \{$")
FIELD = re.compile(
    r" *(?:optional |(repeated ))?([\w.]+) (\w+) = (\d+)(?: \[default = (\S+)\])?;$"
)
VALUE = re.compile(r" *(\w+) = (\d+);$")
SCALARS = {
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_FLOAT: "float",
    FieldDescriptorProto.TYPE_INT32: "int32",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_STRING: "string",
}


def written(text):
    """The messages and enums of a .proto file, by name."""
    found, within = {}, []
    for line in text[PACKAGE.search(text).end() :].splitlines():
        if not line.strip() or line.strip().startswith(("//", "import ")):
            continue
        if begin := BEGIN.match(line):
            within.append(begin[2])
            found[".".join(within)] = set()
        elif line.strip() == "}":
            within.pop()
        elif field := FIELD.match(line):
            repeated, kind, name, number, default = field.groups()
            found[".".join(within)].add(
                (name, int(number), kind, bool(repeated), default or "")
            )
        else:
            value = VALUE.match(line)
            assert value, f"{line!r} is of no form that this test knows"
            found[".".join(within)].add((value[1], int(value[2])))
    assert not within
    return found


def generated(file):
    """The same of a generated module's descriptor."""
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    repeated = FieldDescriptorProto.LABEL_REPEATED

    def kind(field, message):
        name = field.type_name.removeprefix(".").removeprefix(f"{file.package}.")
        # A message's own types go by their short names.
        return name.removeprefix(f"{message}.") or SCALARS[field.type]

    found = {}

    def add(message, name):
        found[name] = {
            (
                field.name,
                field.number,
                kind(field, name),
                field.label == repeated,
                field.default_value,
            )
            for field in message.field
        }
        for enum in message.enum_type:
            found[f"{name}.{enum.name}"] = {(v.name, v.number) for v in enum.value}
        for nested in message.nested_type:
            add(nested, f"{name}.{nested.name}")

    for message in proto.message_type:
        add(message, message.name)
    return found


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.name)
def test_generated_messages_are_those_of_the_proto_file(path):
    text = path.read_text()
    name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    file = import_module(f"{name}_pb2").DESCRIPTOR
    assert [file.package] == PACKAGE.findall(text)
    assert generated(file) == written(text)


def test_generated_code_runs_with_the_oldest_protobuf_that_is_allowed():
    allowed = re.search(r'"protobuf>=([\d.]+)', (ROOT / "setup.py").read_text())[1]
    assert len(PROTOS) == 3
    for path in PROTOS:
        code = path.with_name(f"{path.stem}_pb2.py").read_text()
        [protoc] = re.findall(r"^# Protobuf Python Version: (\S+)$", code, re.M)
        assert Version(protoc) <= Version(allowed)
