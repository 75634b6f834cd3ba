"""No code comes in with a model: not through a pickle, a config or a name in one."""

import contextlib
import json
import os
import pickle
import shutil
import sys

import keras
import numpy as np
import pytest
from support import foreign
from support.torch_files import write_zip

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError

MODULE = "module_of_a_stranger"


class Runs:
    """A pickle of it calls `os.system`."""

    def __init__(self, mark):
        self.command = f"touch {mark}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    checkpoints = foreign.unpack(root / "foreign")
    bert = checkpoints.arguments("6/bert/mean")["preset"]
    shutil.copytree(bert, root / "foreign-st")
    model = SimCSE.from_preset(bert, pooling="cls", head_init="random")
    model.save_to_preset(str(root / "ours"))
    shutil.copytree(root / "ours", root / "kerashub")
    for file in ("simcse.json", "head.safetensors", "metadata.json"):
        (root / "kerashub" / file).unlink()
    # A preset of an older release has no hashes, which would refuse all that follows.
    card = root / "ours" / "simcse.json"
    values = json.loads(card.read_text())
    del values["files"]
    card.write_text(json.dumps(values))
    return root


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """What whatever runs would leave behind, and a module that leaves it."""
    mark = tmp_path / "it-ran"
    (tmp_path / "path").mkdir()
    code = (
        f"open({str(mark)!r}, 'w').close()\nclass Layer:\n    pass\ndef run(): pass\n"
    )
    (tmp_path / "path" / f"{MODULE}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    monkeypatch.chdir(tmp_path)
    yield mark
    assert not mark.exists()
    assert MODULE not in sys.modules


def layer(**values):
    return {"module": MODULE, "class_name": "Layer", "config": {}, **values}


def lambda_layer():
    code = keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: x))
    return json.loads(json.dumps(code))


OBJECTS = {
    "a module": layer(),
    "a module and a name": layer(registered_name="Custom>Layer"),
    "os": layer(module="os", class_name="system", config="touch it-ran"),
    "builtins": layer(module="builtins", class_name="eval", config="1"),
    "a function": layer(module="builtins", class_name="function", config="run"),
    "subprocess": layer(module="subprocess", class_name="Popen", config={"args": "ls"}),
    "keras, no layer": layer(module="keras.utils", class_name="get_file"),
    "keras, not exported": layer(module="keras.src.saving", class_name="load_model"),
    "a lambda": lambda_layer(),
    "a dotted module": layer(module=f"{MODULE}.deep.er"),
    "a relative module": layer(module=f".{MODULE}"),
}


def put(values, way, thing):
    """A thing in place of a layer, or within its config."""
    if way == "whole":
        return thing
    if way == "registered":
        return {**values, **thing, "config": values["config"]}
    return {**values, "config": {**values["config"], way: thing}}


@pytest.mark.parametrize("thing", OBJECTS)
@pytest.mark.parametrize(
    ("kind", "file"), [("kerashub", "config.json"), ("ours", "tokenizer.json")]
)
def test_a_class_that_a_config_names_is_not_imported(
    kind, file, thing, models, tmp_path, trap
):
    shutil.copytree(models / kind, tmp_path / "copy")
    path = tmp_path / "copy" / file
    values = json.loads(path.read_text())
    for way in ("whole", "registered", "dtype", "name", "extra"):
        path.write_text(json.dumps(put(values, way, OBJECTS[thing])))
        # Keras does not look at all that a config may hold, nor at the module of a
        # class that it knows by its registered name.
        with contextlib.suppress(UserError):
            SimCSE.from_preset(str(tmp_path / "copy"))
            assert way in ("registered", "dtype", "extra")
            assert thing.startswith(("keras", "a lambda"))


@pytest.mark.parametrize("name", ["task.json", "preprocessor.json"])
def test_other_configs_of_a_preset_name_no_code_either(name, models, tmp_path, trap):
    shutil.copytree(models / "kerashub", tmp_path / "copy")
    values = layer(registered_name="keras_hub>BertTextEmbedder")
    (tmp_path / "copy" / name).write_text(json.dumps({**values, "config": {"a": 1}}))
    with pytest.raises(UserError, match="names the class|pools"):
        SimCSE.from_preset(str(tmp_path / "copy"))


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"auto_map": {"AutoModel": f"{MODULE}.Layer"}}),
        ("config.json", {"model_type": MODULE}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": [f"{MODULE}.Layer"]}}),
        ("tokenizer_config.json", {"tokenizer_class": f"{MODULE}.Layer"}),
        ("1_Pooling/config.json", {"pooling_mode": f"{MODULE}.Layer"}),
        ("sentence_bert_config.json", {"model_args": {"code_revision": "x"}}),
        ("config_sentence_transformers.json", {"model_type": f"{MODULE}.Layer"}),
    ],
)
def test_a_foreign_config_names_no_code(file, values, models, tmp_path, trap):
    shutil.copytree(models / "foreign-st", tmp_path / "copy")
    path = tmp_path / "copy" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(UserError):
        SimCSE.from_preset(str(tmp_path / "copy"))


@pytest.mark.parametrize("kind", [f"{MODULE}.Layer", "os.system", "__main__.x", ""])
def test_a_module_of_a_stranger_is_not_imported(kind, models, tmp_path, trap):
    shutil.copytree(models / "foreign-st", tmp_path / "copy")
    path = tmp_path / "copy" / "modules.json"
    modules = json.loads(path.read_text())
    modules[-1]["type"] = kind
    path.write_text(json.dumps(modules))
    with pytest.raises(UserError):
        SimCSE.from_preset(str(tmp_path / "copy"))


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_not_run(protocol, models, tmp_path, trap):
    shutil.copytree(models / "foreign-st", tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").unlink()
    path = tmp_path / "copy" / "pytorch_model.bin"
    for content in (Runs(trap), {"a": Runs(trap)}, [Runs(trap)]):
        data = pickle.dumps(content, protocol)
        path.write_bytes(data)
        with pytest.raises(UserError):
            SimCSE.from_preset(str(tmp_path / "copy"))
        write_zip(path, None, data=data)
        with pytest.raises(UserError):
            SimCSE.from_preset(str(tmp_path / "copy"))


def test_files_that_would_be_code_are_not_read(models, tmp_path, trap):
    """Beside a model: Python, YAML, Keras' own archive and NumPy's pickles."""
    for kind in ("ours", "foreign-st"):
        shutil.copytree(models / kind, tmp_path / kind)
        code = (tmp_path / "path" / f"{MODULE}.py").read_text()
        for name in ("__init__.py", "modeling.py", "sitecustomize.py", "conftest.py"):
            (tmp_path / kind / name).write_text(code)
        run = f"!!python/object/apply:os.system ['touch {trap}']\n"
        (tmp_path / kind / "config.yaml").write_text(run)
        array = np.array([Runs(trap)], object)
        np.save(tmp_path / kind / "training_state.npy", array, allow_pickle=True)
        (tmp_path / kind / "model.keras").write_bytes(pickle.dumps(Runs(trap)))
        SimCSE.from_preset(str(tmp_path / kind))
