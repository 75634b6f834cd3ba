"""TF Serving's config files, as the Python server reads them."""

from pathlib import Path

import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.server import text_config
from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.model_config import ModelConfig

MODEL = 'name: "m" base_path: "/m" model_platform: "tensorflow"'


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "file.config"
        path.write_text(text)
        return path

    return write


def test_batching_parameters_are_what_the_file_says(write):
    path = write(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 1 }\n"
        "max_enqueued_batches { value: 2 } num_batch_threads { value: 3 }\n"
        "allowed_batch_sizes: 4 allowed_batch_sizes: 8  # a comment"
    )
    assert text_config.read_batching(path) == BatchingParameters(8, 1, 2, 3, (4, 8))


def test_what_a_batching_file_leaves_out_is_tf_servings_default(write):
    found = text_config.read_batching(write("num_batch_threads { value: 2 }"))
    assert found == BatchingParameters(1000, 0, 10, 2, ())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch { value: 1 }", "1:1 .* no field named .max_batch."),
        ("\nmax_batch_size: 1", "2:17 "),
        ("max_batch_size { value: 0 }", "max_batch_size: expected 1 or more, rec"),
        ("num_batch_threads { value: -1 }", "num_batch_threads: expected 1 or more"),
        ("allowed_batch_sizes: 8 allowed_batch_sizes: 4", "expected rising numbers"),
        ("allowed_batch_sizes: 8", "the last to be max_batch_size, 1000, received 8"),
    ],
)
def test_a_wrong_batching_file_is_reported_with_its_place(write, text, words):
    path = write(text)
    with pytest.raises(UserError, match=words) as caught:
        text_config.read_batching(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_models_have_a_policy_and_labels(write):
    path = write(
        f"model_config_list {{ config {{ {MODEL} }} config {{\n"
        '  name: "n" base_path: "/n" model_platform: "tensorflow"\n'
        "  model_version_policy { specific { versions: 4 versions: 2 } }\n"
        '  version_labels { key: "stable" value: 2 }\n'
        "} config {\n"
        '  name: "o" base_path: "/o" model_platform: "tensorflow"\n'
        "  model_version_policy { all {} }\n"
        "} }"
    )
    parsed = text_config.read_models(path)
    assert [*map(ModelConfig.from_proto, parsed.model_config_list.config)] == [
        ModelConfig("m", Path("/m")),
        ModelConfig("n", Path("/n"), 1, (4, 2), {"stable": 2}),
        ModelConfig("o", Path("/o"), None),
    ]


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ({}, [7]),
        ({"latest": 2}, [5, 7]),
        ({"latest": 9}, [2, 5, 7]),
        ({"latest": None}, [2, 5, 7]),
        ({"specific": (5, 6)}, [5]),
    ],
)
def test_a_policy_chooses_versions(policy, wanted):
    assert ModelConfig("m", Path("/m"), **policy).wanted([2, 5, 7]) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a model_config_list"),
        ('model_config_list { config { name: "m" } }', "expected name and base_path"),
        (f"model_config_list {{ config {{ {MODEL} }} config {{ {MODEL} }} }}", "once"),
        (
            'model_config_list { config { name: "m" base_path: "/m" } }',
            'model_platform: expected "tensorflow", received ""',
        ),
    ],
)
def test_a_wrong_models_file_is_reported(write, text, words):
    with pytest.raises(UserError, match=words):
        text_config.read_models(write(text))


def test_ssl_and_monitoring_files(write):
    ssl = text_config.read_ssl(write('server_key: "K\\nk" server_cert: "C"'))
    assert (ssl.server_key, ssl.server_cert, ssl.client_verify) == ("K\nk", "C", False)
    monitoring = text_config.read_monitoring(write("prometheus_config { path: '/x' }"))
    assert monitoring.prometheus_config.path == "/x"
    assert not monitoring.prometheus_config.enable
    with pytest.raises(UserError, match="server_cert: expected the text of a PEM"):
        text_config.read_ssl(write('server_key: "K"'))
    with pytest.raises(UserError, match="custom_ca: expected with client_verify"):
        text_config.read_ssl(
            write('server_key: "K" server_cert: "C" client_verify: true')
        )
    with pytest.raises(UserError, match='path: expected one that starts with "/"'):
        text_config.read_monitoring(write("prometheus_config { path: 'x' }"))


def test_unreadable_files_are_reported(tmp_path):
    with pytest.raises(UserError, match="cannot read .*nothing: No such file"):
        text_config.read_batching(tmp_path / "nothing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="binary: expected text in UTF-8"):
        text_config.read_batching(tmp_path / "binary")
