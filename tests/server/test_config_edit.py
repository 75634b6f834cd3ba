"""Edits of a `--model_config_file` change versions and labels, and nothing else."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.config import model_server_config_pb2

from simcse_tf.core.errors import UserError
from simcse_tf.server.config_edit import EditableConfig
from simcse_tf.server.text_config import read_models

CONFIG = Path(__file__).parents[2] / "serving" / "models.config"
VERSIONS = st.lists(st.integers(1, 2**63 - 1), min_size=1, max_size=4, unique=True)
LABELS = st.dictionaries(st.text(max_size=8), st.integers(1, 2**63 - 1), max_size=4)


def config(*models):
    found = model_server_config_pb2.ModelServerConfig()
    for name, versions, labels in models:
        model = found.model_config_list.config.add(name=name, base_path="/m")
        model.model_platform = "tensorflow"
        model.model_version_policy.specific.versions.extend(versions)
        model.version_labels.update(labels)
    return found


@settings(max_examples=50, deadline=None)
@given(old=VERSIONS, old_labels=LABELS, new=VERSIONS, labels=LABELS)
def test_one_model_of_two_is_edited(tmp_path_factory, old, old_labels, new, labels):
    path = tmp_path_factory.getbasetemp() / "edited.config"
    other = ("other {", [7], {"model_version_policy {": 7, "}": 7})
    path.write_text(text_format.MessageToString(config(other, ("m", old, old_labels))))
    found = EditableConfig(path, "m")
    assert (found.versions, found.labels) == (old, old_labels)
    path.write_text(found.edited(new, labels))
    assert read_models(path) == config(other, ("m", new, labels))


def test_comments_and_order_stay(tmp_path):
    path = tmp_path / "models.config"
    path.write_text(CONFIG.read_text())
    found = EditableConfig(path, "simcse")
    assert found.edited(found.versions, found.labels) == CONFIG.read_text()
    text = found.edited([1, 2], {**found.labels, "canary": 2})
    changed = [
        line for line in text.split("\n") if line not in CONFIG.read_text().split("\n")
    ]
    assert changed == ["        versions: 2", "      value: 2"]


MODEL = 'name: "m" base_path: "/m" model_platform: "tensorflow"'


@pytest.mark.parametrize(
    "policy",
    [
        "model_version_policy: < specific: < versions: [1, 2] > >",
        "# model_version_policy { }\n model_version_policy{specific{versions:1}}",
        'version_labels{value:1 key:"a"}model_version_policy{specific{versions:1}}',
    ],
)
def test_other_ways_to_write_it_are_edited(tmp_path, policy):
    path = tmp_path / "models.config"
    path.write_text(f"model_config_list {{ config {{ {MODEL} {policy} }} }}")
    found = EditableConfig(path, "m")
    path.write_text(found.edited([1, 2, 3], {"b": 3}))
    assert read_models(path) == config(("m", [1, 2, 3], {"b": 3}))


@pytest.mark.parametrize(
    "policy", ["", "model_version_policy { latest { num_versions: 2 } }"]
)
def test_versions_that_are_not_listed_are_a_mistake(tmp_path, policy):
    path = tmp_path / "models.config"
    path.write_text(f"model_config_list {{ config {{ {MODEL} {policy} }} }}")
    with pytest.raises(UserError, match="by number"):
        EditableConfig(path, "m")


def test_a_file_that_cannot_be_edited_is_a_mistake(tmp_path):
    path = tmp_path / "models.config"
    in_two = MODEL.replace('"m"', '"" "m"')
    policy = "model_version_policy { specific { versions: 1 } }"
    path.write_text(f"model_config_list {{ config {{ {in_two} {policy} }} }}")
    with pytest.raises(UserError, match="by hand"):
        EditableConfig(path, "m").edited([2], {})
