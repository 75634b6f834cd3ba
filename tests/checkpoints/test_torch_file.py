"""`pytorch_model.bin`: tensors are read as they were saved, and nothing is run."""

import contextlib
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from support.torch_files import Storage, Tensor, pickled, whole, write_legacy, write_zip

from simcse_tf.checkpoints.torch_file import read_torch
from simcse_tf.core.errors import UserError

RNG = np.random.default_rng(3)


def contents():
    """Tensors of several kinds, their storages, and what they hold."""
    shared = Storage("0", RNG.normal(size=24).astype("float32"))
    grid = shared.numbers.reshape(4, 6)
    others = {
        "half": RNG.normal(size=3).astype("float16"),
        "double": RNG.normal(size=(2, 2)),
        "ids": np.arange(4),
    }
    tensors = OrderedDict(
        whole=Tensor(shared, (4, 6), (6, 1)),
        transposed=Tensor(shared, (6, 4), (1, 6)),
        part=Tensor(shared, (2, 3), (6, 2), 6),
        repeated=Tensor(shared, (3, 2), (0, 1), 22),
        scalar=Tensor(shared, (), (), 5),
        empty=Tensor(shared, (0, 3), (3, 1)),
    )
    expected = {
        "whole": grid,
        "transposed": grid.T,
        "part": grid[1:3, ::2],
        "repeated": np.tile(grid[3, 4:], (3, 1)),
        "scalar": grid[0, 5],
        "empty": np.empty((0, 3), "float32"),
        **others,
    }
    storages = [shared]
    for key, (name, array) in enumerate(others.items(), 1):
        tensors[name] = whole(str(key), array)
        storages.append(tensors[name].arguments[0])
    bits = Storage("9", np.array([0x3FC0, 0xC000], np.uint16))
    tensors["bfloat16"], expected["bfloat16"] = Tensor(bits, (2,), (1,)), [1.5, -2.0]
    return tensors, [*storages, bits], expected


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_tensors_are_read_as_they_were_saved(write, protocol, tmp_path):
    tensors, storages, expected = contents()
    # What PyTorch notes on its dictionaries of tensors.
    tensors._metadata = {"": {"version": 1}}
    options = {"protocol": protocol} if write is write_zip else {}
    write(tmp_path / "model.bin", tensors, storages, **options)
    found = read_torch(tmp_path / "model.bin")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)
        assert found[name].shape == np.shape(array)


class Runs:
    """What runs a function where a pickle is loaded."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def short(text):
    return b"\x8c" + bytes([len(text)]) + text


STACKED = b"\x80\x04%b%b\x93."
HOSTILE = {
    "os.system": pickle.dumps(Runs(os.system, "touch ran"), 2),
    "eval": pickle.dumps({"a": Runs(eval, "open('ran', 'w')")}, 2),
    "nested": pickle.dumps({"a": [Runs(getattr, Runs(__import__, "os"), "system")]}, 2),
    "a name from the stack": STACKED % (short(b"posix"), short(b"system")),
    "a name with a dot": STACKED % (short(b"torch._utils"), short(b"os.system")),
    "an allowed module": b"\x80\x02ctorch._utils\n_import_dotted_name\n.",
    "an instance": b"(iposix\nsystem\n.",
    "bytes for a loader": b"\x80\x02ctorch.storage\n_load_from_bytes\n.",
    "a new object": pickle.dumps(Storage("0", None), 2),
    "an extension": b"\x80\x02\x82\x01.",
}


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_that_would_run_something_is_refused(
    name, write, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "model.bin", None, data=HOSTILE[name])
    with pytest.raises(UserError, match=r"names .+ nothing of it was run|instruction"):
        read_torch(tmp_path / "model.bin")
    assert not (tmp_path / "ran").exists()


def test_the_message_names_what_the_pickle_would_run(tmp_path):
    write_zip(tmp_path / "model.bin", None, data=HOSTILE["os.system"])
    with pytest.raises(UserError, match=r"it names posix\.system, which is no tensor"):
        read_torch(tmp_path / "model.bin")


FUNCTION = b"ccollections\nOrderedDict\n"
BROKEN = {
    "nothing": b"",
    "no end": b"\x80\x02}",
    "an empty stack": b"\x80\x02.",
    "a call of no function": b"\x80\x02K\x01)R.",
    "a call of a storage": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "a state for a function": b"\x80\x02" + FUNCTION + b"}X\x01\x00\x00\x00aK\x01sb.",
    "a missing memo": b"\x80\x02h\x07.",
    "a long string": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
    "a high memo, then nothing": b"\x80\x02}r\xff\xff\xff\xff",
    "a list as a key": b"\x80\x02}]K\x01s.",
    "a storage of no size": b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\xff\xff\xff\xfftQ.",
    "no dictionary": pickle.dumps([1], 2),
    "a number": pickle.dumps({"epoch": 3}, 2),
    # Each tuple holds the one before twice: written out it would fill any memory.
    "laughs": b"\x80\x02)"
    + b"".join(b"q%c" % i + b"h%c\x86" % i for i in range(60))
    + b"}X\x01\x00\x00\x00aK\x01s\x86.",
}


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_pickle_is_told(name, write, tmp_path):
    write(tmp_path / "model.bin", None, data=BROKEN[name])
    with pytest.raises(UserError, match=r"model\.bin") as told:
        read_torch(tmp_path / "model.bin")
    assert len(str(told.value)) < 300


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((4,), (1,), 1), ((2, 2), (3, 1), 0), ((2**40, 2**40), (1, 0), 0)],
)
def test_a_tensor_past_its_storage_is_refused(shape, strides, offset, tmp_path):
    storage = Storage("0", np.zeros(4, "float32"))
    tensor = {"a": Tensor(storage, shape, strides, offset)}
    write_zip(tmp_path / "model.bin", tensor, [storage])
    with pytest.raises(UserError, match=r"a: a tensor (reaches past|of no possible)"):
        read_torch(tmp_path / "model.bin")


@pytest.mark.parametrize("key", ["../../secret", "/etc/passwd", "1"])
def test_a_storage_is_looked_for_in_the_file_alone(key, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    named = Storage(key, np.zeros(4, "float32"))
    held = Storage("0", np.zeros(4, "float32"))
    write_zip(tmp_path / "model.bin", {"a": Tensor(named, (4,), (1,))}, [held])
    with pytest.raises(UserError, match="is not there, or not whole"):
        read_torch(tmp_path / "model.bin")


def test_a_storage_of_another_size_is_refused(tmp_path):
    said = Storage("0", np.zeros(400, "float32"))
    held = Storage("0", np.zeros(4, "float32"))
    content = {"a": Tensor(said, (4,), (1,))}
    for write in (write_zip, write_legacy):
        write(tmp_path / "model.bin", content, [held])
        with pytest.raises(UserError, match=r"not whole|ends too early"):
            read_torch(tmp_path / "model.bin")


def test_a_compressed_file_is_refused(tmp_path):
    tensors, storages, _ = contents()
    compression = zipfile.ZIP_DEFLATED
    write_zip(tmp_path / "model.bin", tensors, storages, compression=compression)
    with pytest.raises(UserError, match="compressed"):
        read_torch(tmp_path / "model.bin")


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_file_that_is_cut_short_is_told_wherever_it_ends(write, tmp_path):
    tensors, storages, _ = contents()
    path = tmp_path / "model.bin"
    write(path, tensors, storages)
    content = path.read_bytes()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(UserError):
            read_torch(path)


def test_a_changed_byte_gives_tensors_or_one_line(tmp_path):
    tensors, storages, _ = contents()
    path = tmp_path / "model.bin"
    data = bytearray(pickled(tensors))
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 0x15
        write_zip(path, None, storages, data=bytes(changed))
        with contextlib.suppress(UserError):
            read_torch(path)
