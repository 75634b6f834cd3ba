"""A damaged model is refused in one line, or it embeds as before: nothing between.

Of a preset of ours every bit counts. In formats without hashes it cannot be told: other
numbers of the right form in weights or configs, another letter in a vocabulary, fewer
than 128 tokens that are missing at a line's end, an optional file that is missing (a
tokenizer's config, the prompts of a classic sentence-transformers directory).
"""

import json
import shutil

import numpy as np
import pytest
from support import foreign
from support.damage import damages

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError

# Of some hundred ways to damage a directory.
COUNTS = [16, pytest.param(64, marks=pytest.mark.attack)]
SENTENCES = [
    "A man is playing a guitar.",
    "the the a x zz",
    "",
    "Two dogs run through the snow, and the children build a castle of sand all night",
]

# To trace a graph for each model would take longer than all else.
pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A directory in each format, and one of another model."""
    root = tmp_path_factory.mktemp("models")
    checkpoints = foreign.unpack(root / "foreign")

    def cell(name):
        return checkpoints.arguments(name)["preset"]

    for name, source in (
        ("hugging face", cell("5/plain/bert")),
        ("sentence-transformers", cell("6/bert/dense, normalize")),
    ):
        shutil.copytree(source, root / name)
    for name, source in (("ours", "6/bert/mean"), ("other", "6/bert/cls+max")):
        model = SimCSE.from_preset(cell(source), pooling="cls", head_init="random")
        model.save_to_preset(str(root / name))
        shutil.copytree(root / name, root / f"{name} of kerashub")
        for file in ("simcse.json", "head.safetensors", "metadata.json"):
            (root / f"{name} of kerashub" / file).unlink()
    return root


def embed(directory):
    model = SimCSE.from_preset(str(directory))
    return model(model.preprocess(SENTENCES)).numpy()


def outcome(directory, expected):
    try:
        embeddings = embed(directory)
    except UserError as error:
        told = " ".join(str(error).split())
        return "refused" if len(told) < 1500 else f"a message of {len(told)} letters"
    same = embeddings.shape == expected.shape
    return "equal" if same and np.abs(embeddings - expected).max() < 1e-6 else "other"


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("ours", "other"),
        ("ours of kerashub", "other of kerashub"),
        ("hugging face", "other"),
        ("sentence-transformers", "other"),
    ],
)
def test_a_damaged_model_is_refused_or_embeds_as_before(
    kind, other, count, models, tmp_path
):
    expected = embed(models / kind)
    received = {}
    for damage in damages(models / kind, models / other, count, bits=kind == "ours"):
        copy = damage.copy(models / kind, tmp_path / "copy")
        received[f"{damage.file} {damage.name}"] = outcome(copy, expected)
    wrong = {k: v for k, v in received.items() if v not in ("refused", "equal")}
    refused = sum(v == "refused" for v in received.values())
    print(f"{kind}: {len(received)} damaged, {refused} refused, {len(wrong)} wrong")
    assert not wrong
    assert len(received) == count
    assert refused > count // 2


@pytest.mark.parametrize("names", [("simcse.json",), ("head.safetensors",)])
def test_a_preset_of_ours_that_lost_a_file_is_no_preset_of_kerashub(
    names, models, tmp_path
):
    shutil.copytree(models / "ours", tmp_path / "copy")
    for name in names:
        (tmp_path / "copy" / name).unlink()
    with pytest.raises(UserError, match=rf"{names[0]} is missing.*copy the directory"):
        embed(tmp_path / "copy")


def test_without_head_and_settings_the_mark_still_tells_it(models, tmp_path):
    shutil.copytree(models / "ours", tmp_path / "copy")
    (tmp_path / "copy" / "simcse.json").unlink()
    (tmp_path / "copy" / "head.safetensors").unlink()
    with pytest.raises(UserError, match="simcse_tf wrote the directory"):
        embed(tmp_path / "copy")


def test_a_file_that_would_be_read_in_anothers_place_is_refused(models, tmp_path):
    for name in ("model.weights.json", "assets/tokenizer/merges.txt"):
        shutil.copytree(models / "ours", tmp_path / "copy", dirs_exist_ok=True)
        (tmp_path / "copy" / name).write_text("{}")
        with pytest.raises(UserError, match=f"{name} is not one of the files that"):
            embed(tmp_path / "copy")
        (tmp_path / "copy" / name).unlink()
    # What nobody reads may stand beside them.
    (tmp_path / "copy" / "README.md").write_text("mine")
    (tmp_path / "copy" / "dev.json").write_text("{}")
    embed(tmp_path / "copy")


def test_settings_edited_by_hand_are_told_with_the_way_out(models, tmp_path):
    shutil.copytree(models / "ours", tmp_path / "copy")
    card = tmp_path / "copy" / "simcse.json"
    values = json.loads(card.read_text()) | {"max_length": 8}
    card.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"--max-length.*the key files removed"):
        embed(tmp_path / "copy")
    del values["files"]
    card.write_text(json.dumps(values))
    assert SimCSE.from_preset(str(tmp_path / "copy")).max_length == 8


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({}, "has no pooling"),
        ({"pooling": "cls", "head_in_inference": 1, "max_length": 8}, "of type bool"),
        ({"pooling": "cls", "head_in_inference": True, "max_length": "8"}, "type int"),
        ([], "expected a JSON object"),
    ],
)
def test_settings_of_an_older_release_are_all_there(card, message, models, tmp_path):
    shutil.copytree(models / "ours", tmp_path / "copy")
    (tmp_path / "copy" / "simcse.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=message):
        embed(tmp_path / "copy")


def test_a_preset_of_an_older_release_whose_vocabulary_is_cut_is_refused(
    models, tmp_path
):
    shutil.copytree(models / "ours", tmp_path / "copy")
    card = tmp_path / "copy" / "simcse.json"
    values = json.loads(card.read_text())
    del values["files"]
    card.write_text(json.dumps(values))
    expected = embed(models / "ours")
    np.testing.assert_array_equal(embed(tmp_path / "copy"), expected)
    vocabulary = tmp_path / "copy" / "assets" / "tokenizer" / "vocabulary.txt"
    lines = vocabulary.read_bytes().splitlines(True)
    vocabulary.write_bytes(b"".join(lines[: len(lines) // 2]))
    with pytest.raises(UserError, match="the vocabulary is cut"):
        embed(tmp_path / "copy")


def test_a_copy_through_links_is_the_same_model(models, tmp_path):
    """As the hub's client keeps its files."""
    for path in (models / "ours").rglob("*"):
        if path.is_file():
            link = tmp_path / "copy" / path.relative_to(models / "ours")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    expected = embed(models / "ours")
    np.testing.assert_array_equal(embed(tmp_path / "copy"), expected)
