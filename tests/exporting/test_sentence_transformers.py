import json
import os
import subprocess
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import load_file
from support.families import FAMILY_NAMES, make_family_preset
from support.hub import TOKEN, running_hub
from support.models import SENTENCES, run_eagerly

from simcse_tf import SimCSE
from simcse_tf.core import cli
from simcse_tf.core.errors import UserError
from simcse_tf.export import main
from simcse_tf.exporting import sentence_transformers
from simcse_tf.exporting.sentence_modules import named_prompts
from simcse_tf.exporting.sentence_transformers import export_sentence_transformers

TEXTS = [
    *SENTENCES,
    "",
    " two  spaces,\ttabs ",
    "naïve Straße 漢字 🙂👩‍👩‍👧",
    "a [SEP] b </s> c <mask>",
    "word " * 100,
]
SETTINGS = {
    "cls": {"pooling": "cls"},
    "cls-in-training": {"pooling": "cls", "head_in_inference": False},
    "dense": {
        "pooling": "max+avg",
        "dense": [
            {"units": 8, "activation": "gelu"},
            {"units": 4, "activation": "identity", "use_bias": False},
        ],
    },
    "prompt": {
        "pooling": "weightedmean",
        "prompt": "find: ",
        "prompts": {"query": "find: ", "document": "text: "},
    },
    "relu": {"pooling": "mean_sqrt_len+lasttoken", "activation": "relu"},
}
CELLS = (
    ("bert", "cls"),
    ("bert", "dense"),
    ("distilbert", "relu"),
    ("roberta", "cls"),
    ("roberta", "prompt"),
    ("xlm_roberta", "cls-in-training"),
)
EMBED = """
import json, pathlib, sys
import numpy as np
from sentence_transformers import SentenceTransformer

texts = json.load(sys.stdin)
for directory in map(pathlib.Path, sys.argv[2:]):
    model = SentenceTransformer(str(directory), device="cpu")
    np.save(pathlib.Path(sys.argv[1], directory.name + ".npy"), model.encode(texts))
"""


@pytest.fixture(scope="module")
def model(tiny_preset):
    return SimCSE.from_preset(str(tiny_preset), max_length=24, activation="gelu")


def exported(model, path, **options):
    return export_sentence_transformers(model, str(path), **options)


def tell_texts_apart(model):
    """Large weights: with those of a new model all first tokens become the same."""
    random = np.random.default_rng(5)
    for layer in (model.backbone, model.head):
        for weight in layer.weights if layer is not None else []:
            weight.assign(weight + random.normal(0, 0.4, weight.shape))


def embed(model):
    return model(model.preprocess(TEXTS)).numpy()


def cosines(a, b):
    return (a.astype(np.float64) * b).sum(axis=1)


@pytest.fixture(scope="module")
def cells(tiny_preset, tmp_path_factory):
    """Exported models, each family and each of the settings among them."""
    path = tmp_path_factory.mktemp("cells")
    found = {}
    with pytest.MonkeyPatch.context() as patch, run_eagerly():
        # It is what the test does.
        patch.setattr(sentence_transformers, "_compare", lambda model, directory: None)
        # Other weights of a head may put two of the texts nearly side by side.
        keras.utils.set_random_seed(0)
        for family, name in CELLS:
            preset = tiny_preset
            if family != "bert":
                preset = make_family_preset(family, path / f"{family}-{name}-preset")
            settings = {"max_length": 24, "head_init": "random", **SETTINGS[name]}
            model = SimCSE.from_preset(str(preset), **settings)
            tell_texts_apart(model)
            directory = exported(model, path / f"{family}-{name}")
            found[directory] = (model.settings(), embed(model))
    return found


def places(directory):
    """The texts that embed alike: special tokens are no plain text to Unigram."""
    unigram = directory.name.startswith("xlm_roberta")
    return [i for i, text in enumerate(TEXTS) if not (unigram and "</s>" in text)]


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_a_directory_is_read_back_as_the_model_that_it_was(cells):
    assert {family for family, _ in CELLS} == {"bert", *FAMILY_NAMES}
    assert {name for _, name in CELLS} == SETTINGS.keys()
    for directory, (settings, embeddings) in cells.items():
        again = SimCSE.from_preset(str(directory))
        assert (again.max_length, again.prompt) == (24, settings["prompt"]), directory
        found = embed(again)
        assert found.shape == embeddings.shape
        assert np.triu(found @ found.T, 1).max() < 0.9999, directory
        alike = cosines(found, embeddings)[places(directory)]
        assert alike.min() >= 1 - 1e-6, directory
        differ = len(alike) < len(TEXTS)
        card = (directory / "README.md").read_text("utf-8")
        assert ("| special tokens in a text | &lt;s>, &lt;pad>," in card) == differ


@pytest.mark.slow
def test_sentence_transformers_embeds_as_the_model_does(cells, tmp_path):
    pythons = os.environ.get("SIMCSE_PEERS_PYTHON", "")
    if not pythons:
        pytest.skip("SIMCSE_PEERS_PYTHON names no Python with sentence-transformers")
    for python in pythons.split(os.pathsep):
        done = subprocess.run(
            [python, "-c", EMBED, str(tmp_path), *map(str, cells)],
            input=json.dumps(TEXTS),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        # What transformers says of weights that it had to make up.
        assert "MISSING" not in done.stderr
        assert "newly initialized" not in done.stderr
        for directory, (_, embeddings) in cells.items():
            found = np.load(tmp_path / f"{directory.name}.npy")
            alike = cosines(found, embeddings)[places(directory)]
            assert alike.min() >= 1 - 1e-6, directory


@pytest.mark.slow
def test_the_head_is_the_pooler_as_in_the_papers_released_models(model, tmp_path):
    tensors = load_file(exported(model, tmp_path / "out") / "model.safetensors")
    kernel, bias = model.head.get_weights()
    np.testing.assert_array_equal(tensors["pooler.dense.weight"], kernel.T)
    np.testing.assert_array_equal(tensors["pooler.dense.bias"], bias)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "avg_first_last"}, "no pooling avg_first_last: expected some of"),
        ({"pooling": "avg+avg_first_last"}, r"no pooling avg\+avg_first_last"),
        ({"pooling": "avg+avg"}, r"no pooling avg\+avg"),
        ({"pooling": "avg+max"}, r"concatenates poolings as max\+avg; the model's are"),
        ({"activation": "softplus"}, "no name for the activation"),
        (
            {"pooling": "avg", "dense": [{"units": 4, "activation": "quick_gelu"}]},
            "no dense layer with quick_gelu: expected one of identity",
        ),
        ({"dtype": "bfloat16"}, "float32 weights.*this model computes in bfloat16"),
    ],
)
def test_what_sentence_transformers_does_not_compute_is_refused(
    tiny_preset, tmp_path, settings, message
):
    model = SimCSE.from_preset(str(tiny_preset), head_init="random", **settings)
    with pytest.raises(UserError, match=message):
        exported(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_distilberts_epsilon_is_no_setting_of_its_config(tmp_path):
    settings = {"pooling": "avg", "layer_norm_epsilon": 1e-3}
    preset = make_family_preset("distilbert", tmp_path / "preset")
    model = SimCSE.from_preset(str(preset), **settings)
    with pytest.raises(UserError, match="always has an epsilon of 1e-12"):
        exported(model, tmp_path / "out")


@pytest.mark.slow
def test_an_export_that_embeds_otherwise_is_not_published(model, tmp_path, monkeypatch):
    write = sentence_transformers.write_transformer

    def write_another(model, directory):
        write(model, directory)
        config = json.loads((directory / "config.json").read_text())
        config["hidden_act"] = "relu"
        (directory / "config.json").write_text(json.dumps(config))

    monkeypatch.setattr(sentence_transformers, "write_transformer", write_another)
    with pytest.raises(RuntimeError, match="with a cosine of .+; not published"):
        exported(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_holds_something_stays_as_it_is(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already: name another one"):
        exported(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("prompt", "prompts", "expected"),
    [
        ("", {}, ({"query": "", "document": ""}, None)),
        ("", {"query": "q: "}, ({"query": "q: ", "document": ""}, None)),
        ("q: ", {"query": "q: "}, ({"query": "q: ", "document": "q: "}, "query")),
        (
            "a: ",
            {"default": "b: "},
            (
                {
                    "query": "a: ",
                    "document": "a: ",
                    "default": "b: ",
                    "default_": "a: ",
                },
                "default_",
            ),
        ),
    ],
)
def test_the_prompt_before_every_text_has_a_name(prompt, prompts, expected):
    model = SimpleNamespace(prompt=prompt, prompts=prompts)
    assert named_prompts(model) == expected


@pytest.mark.slow
def test_the_command_exports_and_pushes(tiny_preset, tmp_path, monkeypatch, capsys):
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        main(
            [
                *("--format", "sentence-transformers", "--model", str(tiny_preset)),
                *("--pooling", "avg", "--max-length", "16"),
                *("--output", str(tmp_path / "out")),
                *("--push", "org/mine", "--private"),
            ]
        )
    assert f"directory {tmp_path / 'out'}" in capsys.readouterr().out
    written = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert hub.repositories == {"org/mine": written}
    assert hub.private["org/mine"]
    assert b'SentenceTransformer("org/mine")' in written["README.md"]
    assert json.loads(written["sentence_bert_config.json"])["max_seq_length"] == 16


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--push", "org/mine"], "--push and --private need --format"),
        (["--format", "sentence-transformers", "--private"], "--private needs --push"),
        (
            ["--format", "sentence-transformers", "--quantize", "int8"],
            "--quantize is a signature of a SavedModel",
        ),
        (
            ["--format", "sentence-transformers", "--push", "mine"],
            "--push: expected ORG/NAME",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_one_line(tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: main(["--model", "m", "--output", str(tmp_path), *flags]))
    assert end.value.code == 2
    assert message in capsys.readouterr().err
