"""Safetensors and Flax files, divided checkpoints, and which file is read."""

import json
import struct

import msgpack
import numpy as np
import pytest
from safetensors.numpy import save_file
from support.torch_files import whole, write_zip

from simcse_tf.checkpoints.flax_file import read_flax
from simcse_tf.checkpoints.safetensors_file import read_safetensors
from simcse_tf.checkpoints.tensors import read_tensors
from simcse_tf.core.errors import UserError

RNG = np.random.default_rng(5)


def test_safetensors_are_read_as_they_were_saved(tmp_path):
    tensors = {
        "a": RNG.normal(size=(3, 4)).astype("float32"),
        "b": RNG.normal(size=5),
        "half": RNG.normal(size=2).astype("float16"),
        "ids": np.arange(3),
        "scalar": np.array(2.5, "float32"),
        "empty": np.empty((0, 2), "float32"),
    }
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    found = read_safetensors(tmp_path / "model.safetensors")
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)


def safetensors(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def test_bfloat16_is_read_as_float32(tmp_path):
    entry = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors({"a": entry}, struct.pack("<2H", 0x3FC0, 0xC000)))
    np.testing.assert_array_equal(read_safetensors(path)["a"], [1.5, -2.0])


def entry(**changes):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no whole safetensors file"),
        (b"\xff" * 8, "no whole safetensors file"),
        (safetensors(b"{"), "no whole safetensors file"),
        (safetensors({"a": entry()}, bytes(7)), "no whole safetensors file"),
        (safetensors({"a": entry(shape=[3])}, bytes(8)), "no whole safetensors file"),
        (safetensors({"a": entry(shape=[-2])}, bytes(8)), "no whole safetensors file"),
        (
            safetensors({"a": entry(dtype="F8_E4M3", data_offsets=[0, 2])}, bytes(2)),
            "a is F8_E4M3",
        ),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_a_broken_safetensors_file_is_told(content, message, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_tensors(tmp_path)


def test_the_parts_of_a_checkpoint_are_read_together(tmp_path):
    parts = {"one.safetensors": {"a": np.ones(2)}, "two.safetensors": {"b": np.ones(3)}}
    for file, tensors in parts.items():
        save_file(tensors, tmp_path / file)
    places = {"a": "one.safetensors", "b": "two.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    found = read_tensors(tmp_path)
    assert found.tensors.keys() == {"a", "b"}
    assert found.file == "model.safetensors.index.json"
    for wrong, message in (
        ({"a": "../one.safetensors"}, "no file beside it"),
        ({**places, "c": "two.safetensors"}, "names c, which no file holds"),
        ({}, "expected a weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(UserError, match=message):
            read_tensors(tmp_path)


def packed(value) -> bytes:
    """msgpack as Flax writes it."""

    def array(each: np.ndarray) -> msgpack.ExtType:
        content = (each.shape, each.dtype.name, each.tobytes())
        return msgpack.ExtType(1, msgpack.packb(content))

    return msgpack.packb(value, default=array)


def test_flax_parameters_get_pytorchs_names_and_kernels(tmp_path):
    kernel = RNG.normal(size=(3, 5)).astype("float32")
    table = RNG.normal(size=(4, 3)).astype("float16")
    halves = {"0": kernel[:, 0], "1": kernel[:, 1]}
    divided = {
        "__msgpack_chunked_array__": True,
        "shape": {"0": 2, "1": 3},
        "chunks": halves,
    }
    content = {
        "embeddings": {"word_embeddings": {"embedding": table}},
        "layer": {"0": {"dense": {"kernel": kernel, "bias": kernel[0]}}},
        "LayerNorm": {"scale": kernel[1], "bias": kernel[2]},
        "large": {"embedding": divided},
    }
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(packed(content))
    found = read_flax(path)
    expected = {
        "embeddings.word_embeddings.weight": table,
        "layer.0.dense.weight": kernel.T,
        "layer.0.dense.bias": kernel[0],
        "LayerNorm.weight": kernel[1],
        "LayerNorm.bias": kernel[2],
        "large.weight": np.stack([kernel[:, 0], kernel[:, 1]]),
    }
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    whole_file = path.read_bytes()
    for end in range(0, len(whole_file), 5):
        path.write_bytes(whole_file[:end])
        with pytest.raises(UserError, match="no whole file of Flax"):
            read_flax(path)
    path.write_bytes(b"\x91" * 100_000)
    with pytest.raises(UserError, match="no whole file of Flax"):
        read_flax(path)


def test_safetensors_come_before_pytorchs_file_and_that_before_flaxs(tmp_path):
    tensor = whole("0", np.ones(2, "float32"))
    (tmp_path / "flax_model.msgpack").write_bytes(packed({"c": np.ones(2)}))
    assert read_tensors(tmp_path).file == "flax_model.msgpack"
    write_zip(tmp_path / "pytorch_model.bin", {"b": tensor}, [tensor.arguments[0]])
    assert read_tensors(tmp_path).file == "pytorch_model.bin"
    save_file({"a": np.ones(2)}, tmp_path / "model.safetensors")
    assert read_tensors(tmp_path).file == "model.safetensors"


def test_weights_that_are_not_read_are_named(tmp_path):
    (tmp_path / "tf_model.h5").write_bytes(b"")
    with pytest.raises(UserError, match=r"expected one of .*found tf_model\.h5"):
        read_tensors(tmp_path)
