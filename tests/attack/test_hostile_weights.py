"""Files of weights that a stranger made: refused in a line, fast, in little memory."""

import io
import json
import pickle
import struct
import time
import zipfile

import h5py
import msgpack
import numpy as np
import pytest
from support.torch_files import Storage, Tensor, write_zip

from simcse_tf.checkpoints.keras_hub_files import check_preset
from simcse_tf.checkpoints.tensors import read_tensors
from simcse_tf.core.errors import UserError


def flax_array(shape, dtype="float32", data=b"abcd"):
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, data)))


def safetensors(header, data=b"", size=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if size is None else size) + header + data


def tensor(shape, begin, end):
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


def tuples_as_a_key():
    """A pickle whose key takes 2^60 steps to hash."""
    doubled = pickle.TUPLE2.join([b"", b""])
    begin = pickle.PROTO + b"\x02" + pickle.GLOBAL + b"collections\nOrderedDict\n"
    nested = pickle.EMPTY_TUPLE + b"".join(
        pickle.BINPUT + b"\0" + pickle.BINGET + b"\0" + doubled for _ in range(60)
    )
    pair = pickle.MARK + nested + pickle.NONE + pickle.TUPLE
    items = pickle.EMPTY_LIST + pair + pickle.APPEND + pickle.TUPLE1
    return begin + items + pickle.REDUCE + pickle.STOP


def zipped(pickled, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("model/data.pkl", pickled)
    return file.getvalue()


HOSTILE = {
    "maps in maps": ("flax_model.msgpack", b"\x81\xa1a" * 1000 + b"\xc0"),
    "maps without end": ("flax_model.msgpack", b"\x81\xa1a" * 10**6),
    "lists without end": ("flax_model.msgpack", b"\x91" * 10**6),
    "a map of billions": ("flax_model.msgpack", b"\xdf\xff\xff\xff\xff"),
    "a huge shape": ("flax_model.msgpack", msgpack.packb({"a": flax_array([2**62])})),
    "a shape of text": ("flax_model.msgpack", msgpack.packb({"a": flax_array("x")})),
    "a header of exabytes": ("model.safetensors", safetensors({}, size=2**63)),
    "arrays in one place": (
        "model.safetensors",
        safetensors({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, bytes(4)),
    ),
    "an array past the end": (
        "model.safetensors",
        safetensors({"a": tensor([10], 0, 40)}, bytes(4)),
    ),
    "a shape that overflows": (
        "model.safetensors",
        safetensors({"a": tensor([2**40, 2**40], 0, 4)}, bytes(4)),
    ),
    "too many dimensions": (
        "model.safetensors",
        safetensors({"a": tensor([0] * 10**5, 0, 0)}),
    ),
    "a deep header": ("model.safetensors", safetensors(b"[" * 10**6)),
    "a key that is never hashed": ("pytorch_model.bin", zipped(tuples_as_a_key())),
    "a compressed archive": (
        "pytorch_model.bin",
        zipped(bytes(10**8), zipfile.ZIP_DEFLATED),
    ),
}


def refusal(directory):
    begun = time.monotonic()
    with pytest.raises(UserError) as told:
        read_tensors(directory)
    assert time.monotonic() - begun < 5
    assert len(str(told.value)) < 1000
    return str(told.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name, tmp_path):
    file, content = HOSTILE[name]
    (tmp_path / file).write_bytes(content)
    assert file in refusal(tmp_path)


def test_a_tensor_has_no_more_numbers_than_its_storage(tmp_path):
    storage = Storage("0", np.zeros(4, np.float32))
    path = tmp_path / "pytorch_model.bin"
    write_zip(path, {"a": Tensor(storage, (10**6, 10**6), (0, 0))}, [storage])
    assert "more numbers than its storage" in refusal(tmp_path)


def test_parts_of_an_archive_that_lie_over_each_other_are_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    numbers = np.zeros(10**5, np.float32)
    storages = [Storage(f"{index:04}", numbers) for index in range(9)]
    tensors = {each.key: Tensor(each, numbers.shape, (1,)) for each in storages}
    write_zip(path, tensors, storages)
    assert len(read_tensors(tmp_path).tensors) == 9
    with zipfile.ZipFile(path) as archive:
        parts = [each for each in archive.infolist() if "/data/" in each.filename]
        parts.sort(key=lambda each: each.header_offset)
        where = archive.start_dir
    content = path.read_bytes()
    directory = bytearray(content[where:])
    # All entries of the directory point to the first part, and the others are gone.
    for part in parts:
        place = directory.index(part.filename.encode()) - 4
        directory[place : place + 4] = struct.pack("<L", parts[0].header_offset)
    kept = content[: parts[1].header_offset]
    end = directory.rindex(b"PK\x05\x06") + 16
    directory[end : end + 4] = struct.pack("<L", len(kept))
    path.write_bytes(kept + directory)
    refusal(tmp_path)


@pytest.fixture
def preset(tiny_preset, tmp_path):
    """The files of a preset, with weights to come."""
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((tiny_preset / name).read_bytes())
    return tmp_path


def declared(file):
    file.create_dataset("w", (10**12,), "f4")


def compressed(file):
    file.create_dataset("w", data=np.zeros(10**7, np.float32), compression="gzip")


def elsewhere(file):
    file["w"] = h5py.ExternalLink("/etc/hosts", "/")


def external(file):
    file.create_dataset("w", (4,), "f4", external=[("/etc/hosts", 0, 16)])


def itself(file):
    file["group"] = file["/"]


@pytest.mark.parametrize("make", [declared, compressed, elsewhere, external, itself])
def test_hdf5_that_holds_less_than_it_declares_is_refused(make, preset):
    with h5py.File(preset / "model.weights.h5", "w") as file:
        make(file)
    with pytest.raises(UserError, match="weights.h5"):
        check_preset(preset)


def test_a_config_larger_than_its_weights_is_refused(preset, tiny_preset):
    weights = (tiny_preset / "model.weights.h5").read_bytes()
    (preset / "model.weights.h5").write_bytes(weights)
    check_preset(preset)
    values = json.loads((preset / "config.json").read_text())
    values["config"]["hidden_dim"] = 10**9
    (preset / "config.json").write_text(json.dumps(values))
    with pytest.raises(
        UserError, match="describes .* numbers or more, and the weights"
    ):
        check_preset(preset)
