import hashlib
import json

import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.exporting.manifest import (
    ExportedModel,
    SignatureTypes,
    TensorType,
    file_hashes,
    read_manifest,
    training_record,
    write_manifest,
)

MODEL = ExportedModel(
    source="runs/sup/best",
    pooling="cls",
    max_length=32,
    dimensions=16,
    precision="float32",
    parameters=1234,
)
SIGNATURES = {
    "serving_default": SignatureTypes(
        inputs={"text": TensorType(dtype="string", shape=[None])},
        outputs={"embedding": TensorType(dtype="float32", shape=[None, 16])},
    )
}


@pytest.fixture
def run(tmp_path):
    """The files of a run's directory that a manifest reads."""
    directory = tmp_path / "run"
    for model in ("best", "last"):
        (directory / model).mkdir(parents=True)
    config = {"model": {"preset": "p"}, "data": {"train": "corpora/nli.csv"}}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "metrics.jsonl").write_text("")
    (directory / "best" / "dev.json").write_text('{"STSBenchmark": 81.5, "step": 250}')
    (directory / "test.json").write_text('{"STSBenchmark": 80.25, "avg": 80.25}')
    return directory


def test_a_manifest_reads_back_as_it_was_written(tmp_path, run):
    (tmp_path / "export" / "variables").mkdir(parents=True)
    (tmp_path / "export" / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "export" / "variables" / "data").write_bytes(b"weights")
    training = training_record(str(run / "best"))
    write_manifest(tmp_path / "export", MODEL, training, SIGNATURES)
    read = read_manifest(tmp_path / "export")
    assert (read.model, read.training, read.signatures) == (MODEL, training, SIGNATURES)
    assert read.files["variables/data"] == hashlib.sha256(b"weights").hexdigest()
    assert {"simcse_tf", "tensorflow", "keras"} <= read.versions.keys()


def test_a_manifest_is_read_under_its_old_name_too(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    write_manifest(tmp_path, MODEL, None, SIGNATURES)
    written, files = read_manifest(tmp_path), file_hashes(tmp_path)
    (tmp_path / "manifest.json").rename(tmp_path / "simcse.json")
    assert read_manifest(tmp_path) == written
    assert file_hashes(tmp_path) == files == written.files
    # With a manifest of the new name beside it, it is a file like any other.
    write_manifest(tmp_path, MODEL, None, SIGNATURES)
    assert file_hashes(tmp_path).keys() == {"saved_model.pb", "simcse.json"}


def test_the_content_hash_is_that_of_the_files_alone(tmp_path):
    def written(name, content):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "saved_model.pb").write_bytes(content)
        write_manifest(directory, MODEL, None, SIGNATURES)
        return read_manifest(directory).content_hash

    line = f"{hashlib.sha256(b'graph').hexdigest()}  saved_model.pb\n"
    assert written("1", b"graph") == hashlib.sha256(line.encode()).hexdigest()
    assert written("2", b"graph") == written("3", b"graph")
    assert written("4", b"other") != written("5", b"graph")


def test_a_run_gives_its_config_data_and_scores(run):
    training = training_record(str(run / "best"))
    assert training.data == "nli.csv"
    assert training.config["model"]["preset"] == "p"
    assert training.dev == {"STSBenchmark": 81.5, "step": 250}
    assert training.test == {"STSBenchmark": 80.25, "avg": 80.25}


def test_the_last_model_of_a_run_has_not_the_scores_of_its_best(run):
    training = training_record(str(run / "last"))
    assert (training.data, training.dev, training.test) == ("nli.csv", None, None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"data": []}'),
        ("config.json", '{"data": {"train": 5}}'),
        ("config.json", '{"data": {}}'),
        ("best/dev.json", '["STSBenchmark"]'),
        ("best/dev.json", '{"STSBenchmark": "high"}'),
        ("best/dev.json", '{"STSBenchmark": NaN}'),
        ("test.json", "{"),
    ],
)
def test_a_run_whose_files_are_damaged_is_one_line(run, name, content):
    (run / name).write_text(content)
    with pytest.raises(UserError, match=r"(config|dev|test)\.json"):
        training_record(str(run / "best"))


@pytest.mark.parametrize("source", ["package://p/model", "bert_base_en_uncased"])
def test_a_model_of_no_run_has_no_training(source, tmp_path):
    assert training_record(source) is None
    (tmp_path / "model").mkdir()
    assert training_record(str(tmp_path / "model")) is None
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "config.json").write_text('{"written_by": "something else"}')
    assert training_record(str(tmp_path / "model")) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no manifest.json in it"),
        ("{", "is not valid JSON"),
        ('{"pooling": "avg", "max_length": 32}', "{name}: created: Field required"),
    ],
)
@pytest.mark.parametrize("name", ["manifest.json", "simcse.json"])
def test_what_is_no_manifest_is_reported(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message.format(name=name)):
        read_manifest(tmp_path)
