"""What a MODEL argument names: directories, packages, presets, repositories."""

import json

import numpy as np
import pytest
import tensorflow as tf
from huggingface_hub import constants, hf_hub_download
from support.download_hub import running_hub
from support.models import MINILM, SENTENCES

from simcse_tf import SimCSE
from simcse_tf.checkpoints.resolve import is_keras_hub, resolve
from simcse_tf.core.errors import UserError


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that the client asks, and a cache of its own."""
    with running_hub() as hub:
        ask(hub.address, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


def ask(address, monkeypatch):
    # The client reads HF_ENDPOINT when it is imported.
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    template = template.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", address)


def repository(hub, path, *files, name="org/name"):
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text(json.dumps({"file": file}))
    hub.repositories[name] = path


def test_a_repository_is_downloaded_as_a_directory(hub, tmp_path):
    needed = [
        "config.json",
        "modules.json",
        "1_Pooling/config.json",
        "2_Dense/pytorch_model.bin",
        "model.safetensors",
        "vocab.txt",
    ]
    others = ["pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "onnx/config.json"]
    repository(hub, tmp_path / "files", *needed, *others)
    directory = resolve("hf://org/name")
    assert sorted(set(hub.fetched)) == sorted(needed)
    for file in needed:
        with open(f"{directory}/{file}") as opened:
            assert json.load(opened) == {"file": file}
    assert not is_keras_hub(directory)
    # Once: what is there is not fetched again.
    hub.fetched.clear()
    assert resolve("hf://org/name@main") == directory
    assert not hub.fetched


@pytest.mark.parametrize("file", ["pytorch_model.bin", "flax_model.msgpack"])
def test_other_weights_are_fetched_where_there_is_no_safetensors(file, hub, tmp_path):
    repository(hub, tmp_path / "files", "config.json", file, "tf_model.h5")
    resolve("hf://org/name")
    assert sorted(set(hub.fetched)) == ["config.json", file]


def test_a_kerashub_repository_is_one_of_kerashubs_presets(hub, tmp_path):
    path = tmp_path / "files"
    repository(hub, path, "model.weights.h5", "assets/tokenizer/vocabulary.txt")
    (path / "config.json").write_text('{"registered_name": "keras_hub>BertBackbone"}')
    directory = resolve("hf://org/name")
    assert is_keras_hub(directory)
    assert "model.weights.h5" in hub.fetched


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        ("hf://org/other", "there is no such repository, or it is private"),
        ("hf://org/name@v9", "it has no revision 'v9'"),
        ("hf://org/gated", "it is gated: accept its terms"),
        ("hf://org/empty", "it has no config.json"),
        ("hf://org/weightless", "holds no weights: expected one of model.safetensors"),
        ("hf://name", "expected hf://ORG/NAME"),
    ],
)
def test_what_cannot_be_had_is_told_in_one_line(handle, message, hub, tmp_path):
    repository(hub, tmp_path / "a", "config.json", "model.safetensors")
    repository(hub, tmp_path / "a", name="org/gated")
    repository(hub, tmp_path / "b", "README.md", name="org/empty")
    repository(hub, tmp_path / "c", "config.json", name="org/weightless")
    hub.gated.add("org/gated")
    with pytest.raises(UserError, match=message) as told:
        resolve(handle)
    assert "\n" not in str(told.value)


def test_without_the_hub_what_was_downloaded_is_taken(hub, tmp_path, monkeypatch):
    repository(hub, tmp_path / "files", "config.json", "model.safetensors")
    directory = resolve("hf://org/name")
    ask("http://127.0.0.1:9", monkeypatch)
    assert resolve("hf://org/name") == directory
    with pytest.raises(UserError, match="the hub cannot be reached"):
        resolve("hf://org/another")


def test_a_repositorys_name_without_the_scheme_is_refused_with_a_hint():
    with pytest.raises(UserError, match="hub is hf://org/name$"):
        resolve("org/name")


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("scheme", ["hf://", "file://", "package://"])
def test_a_handle_keeps_all_that_decides_embeddings(
    scheme, hub, tiny_preset, tmp_path, monkeypatch
):
    model = SimCSE.from_preset(
        str(tiny_preset),
        pooling="cls",
        max_length=24,
        activation="gelu",
        prompt="q: ",
        head_init="random",
    )
    path = tmp_path / "my_models" / "mine"
    model.save_to_preset(str(path))
    hub.repositories["org/name"] = path
    # A namespace package: a directory that can be imported, without more.
    monkeypatch.syspath_prepend(str(tmp_path))
    handles = {"hf://": "org/name", "file://": path, "package://": "my_models/mine"}
    loaded = SimCSE.from_preset(f"{scheme}{handles[scheme]}")
    assert loaded.settings() == model.settings()
    np.testing.assert_array_equal(loaded(SENTENCES), model(SENTENCES))


def test_a_file_handle_is_its_directory():
    directory = resolve(MINILM)
    assert resolve(f"file://{directory}") == directory
    with pytest.raises(UserError, match="no model '/nowhere'"):
        resolve("file:///nowhere")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("package://__main__/x", "no package '__main__' is installed"),
        ("package://", "no package '' is installed"),
        ("package://os/x", "no package 'os' is installed"),
        ("package://no.such/x", "no package 'no.such' is installed"),
        ("package://numpy/x", r"no model \(config.json\) in it"),
        ("package://numpy/\0", "null byte|no model"),
        ("package://numpy/" + "x" * 300, "File name too long"),
        ("a\0b", "no model"),
        ("x" * 300, "no model .*File name too long"),
        ("/x" * 3000, "no model .*File name too long"),
        ("file://" + "x" * 300, "no model .*File name too long"),
        ("hf://a/b/c", "expected hf://ORG/NAME"),
        ("hf://" + "x" * 5000, "expected hf://ORG/NAME"),
        ("\udcff", "no model"),
        ("", "no model"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_in_a_short_line(model, message):
    with pytest.raises(UserError, match=message) as told:
        resolve(model)
    assert len(str(told.value)) < 1000
    assert "\n" not in str(told.value)


def test_a_handle_of_a_scheme_that_nothing_reads_is_told_in_a_line():
    for model in ("modelscope://a/b", "nothing://a/b", "kaggle://a", "ram://no/where"):
        with pytest.raises(UserError, match=f"cannot load {model}: "):
            SimCSE.from_preset(model)


def test_links_in_a_circle_are_no_model(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UserError, match="no model"):
        resolve(str(tmp_path / "a"))


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("kind", ["of Hugging Face", "of ours", "of KerasHub"])
def test_a_handle_of_another_format_is_refused(
    kind, tiny_preset, tmp_path, monkeypatch
):
    # TensorFlow's files in memory stand in for a bucket.
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    handle = f"ram://models/{kind.split()[-1]}"
    source = resolve(MINILM) if kind == "of Hugging Face" else str(tiny_preset)
    expected = SimCSE.from_preset(str(tiny_preset))
    if kind == "of ours":
        expected.save_to_preset(str(tmp_path / "ours"))
        source = str(tmp_path / "ours")
    for directory, _, files in tf.io.gfile.walk(source):
        for file in files:
            to = f"{handle}/{directory.removeprefix(source)}/{file}".replace("//", "/")
            to = to.replace("ram:/", "ram://")
            tf.io.gfile.makedirs(to.rpartition("/")[0])
            tf.io.gfile.copy(f"{directory}/{file}", to, overwrite=True)
    if kind == "of KerasHub":
        loaded = SimCSE.from_preset(handle)
        np.testing.assert_array_equal(loaded(SENTENCES), expected(SENTENCES))
    else:
        with pytest.raises(UserError, match="not in KerasHub's format"):
            SimCSE.from_preset(handle)


def test_without_the_hub_a_part_is_not_taken_for_the_whole(hub, tmp_path, monkeypatch):
    repository(hub, tmp_path / "files", "config.json", "model.safetensors", "vocab.txt")
    # Another library downloads the files that it needs itself.
    for file in ("config.json", "model.safetensors"):
        hf_hub_download("org/name", file)
    ask("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(UserError, match="cannot be told whether it has a modules"):
        resolve("hf://org/name")
    # It can, once the hub has answered.
    ask(hub.address, monkeypatch)
    resolve("hf://org/name")
    ask("http://127.0.0.1:9", monkeypatch)
    resolve("hf://org/name")
