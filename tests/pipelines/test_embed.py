"""`pipeline embed`: whole files, dead letters, and what a rerun does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from apache_beam.io.localfilesystem import LocalFileSystem
from apache_beam.testing.util import assert_that, equal_to
from support.exports import export_with_manifest
from support.servers import DIM, environment, server_in_thread

from simcse_tf.core.errors import UserError
from simcse_tf.encoding.embedding_files import embeddings_about, stored_rows
from simcse_tf.pipeline import main
from simcse_tf.pipelines import running
from simcse_tf.pipelines.embedding import EmbedTexts
from simcse_tf.pipelines.handlers import SavedModelHandler
from simcse_tf.server.servable import Servable

SENTENCES = [f"Sentence {n} of a file." for n in range(30)] + ["Sentence 1 of a file."]
BAD = '{"text": 5, "id": "k"}\n{"te\n'


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return export_with_manifest(tmp_path_factory.mktemp("models") / "simcse")


@pytest.fixture(scope="module")
def expected(model_path):
    """What the exported model says of a text, by the text."""
    model = tf.saved_model.load(str(model_path)).signatures["serving_default"]
    texts = [*SENTENCES, "from JSON"]
    rows = model(text=tf.constant(texts))["embedding"].numpy()
    return dict(zip(texts, rows, strict=True))


@pytest.fixture
def inputs(tmp_path):
    """31 sentences, and a file with one good row and two bad ones."""
    directory = tmp_path / "in"
    directory.mkdir()
    (directory / "a.txt").write_text("\n".join(SENTENCES))
    (directory / "b.jsonl").write_text('{"text": "from JSON", "id": "j"}\n' + BAD)
    return directory


def embed(model_path, inputs, output, *flags):
    main(
        [
            *("embed", "--saved-model", str(model_path), "--input", f"{inputs}/*"),
            *("--output", str(output), "--shard-rows", "8", *flags),
        ]
    )


def files(output):
    return sorted(path.name for path in Path(output).iterdir())


def rows_of(output):
    """Texts and embeddings by id, of which there is each once."""
    found = {}
    for path in sorted(Path(output).glob("embeddings-*.parquet")):
        table = pq.read_table(path)
        stored = stored_rows(table["embedding"])
        for row, embedding in zip(table.to_pylist(), stored, strict=True):
            assert row["id"] not in found
            found[row["id"]] = row.get("text"), embedding
    return found


def test_files_become_embeddings_with_ids_and_dead_letters_with_reasons(
    model_path, inputs, expected, tmp_path, capsys
):
    output = tmp_path / "out"
    # Beam works through each bundle twice, as after a worker was lost.
    embed(model_path, inputs, output, "--with-text", "--direct_runner_bundle_repeat=1")
    told = capsys.readouterr()
    assert told.out.strip().endswith("32 embeddings in 5 files, 2 dead letters")
    assert "repeated within a shard" in told.err
    # Nothing else is left.
    assert files(output) == [
        "dead-letters-00004-of-00005.jsonl",
        *(f"embeddings-0000{n}-of-00005.parquet" for n in range(5)),
        "manifest.json",
    ]
    rows = rows_of(output)
    assert set(rows) == {*(f"a.txt:{n}" for n in range(31)), "j"}
    for text, embedding in rows.values():
        np.testing.assert_allclose(embedding, expected[text], atol=1e-6)
    assert rows["a.txt:30"][0] == rows["a.txt:1"][0]
    letters = output / "dead-letters-00004-of-00005.jsonl"
    bad = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [(row["file"], row["row"]) for row in bad] == [
        ("b.jsonl", 1),
        ("b.jsonl", 2),
    ]
    assert "received 5" in bad[0]["reason"]
    schema = pq.read_schema(output / "embeddings-00000-of-00005.parquet")
    about = embeddings_about(schema, "")
    assert (about.model, about.dimension) == ("models/tiny", DIM)
    assert about.fingerprint

    _rerun_does_what_is_missing(model_path, inputs, output, rows, capsys)


def _rerun_does_what_is_missing(model_path, inputs, output, rows, capsys):
    flags = [model_path, inputs, output, "--with-text"]
    lost = output / "embeddings-00002-of-00005.parquet"
    written = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    lost.unlink()
    embed(*flags)
    told = capsys.readouterr()
    assert "4 of 5 files are there already" in told.err
    assert "8 sentences in" in told.err
    changed = [
        path for path, when in written.items() if path.stat().st_mtime_ns != when
    ]
    assert changed == [lost]
    assert rows_of(output).keys() == rows.keys()
    embed(*flags)
    assert "finished before, 32 embeddings" in capsys.readouterr().out

    with pytest.raises(UserError, match="begun with other settings.*with_text True"):
        embed(*flags[:3])
    shutil.copy(inputs / "b.jsonl", inputs / "c.jsonl")
    with pytest.raises(UserError, match=r"nothing there, name c\.jsonl"):
        embed(*flags)
    (inputs / "c.jsonl").unlink()
    (inputs / "a.txt").write_text("\n".join(SENTENCES) + " ")
    with pytest.raises(UserError, match="begun with another input: name a.txt"):
        embed(*flags)
    (inputs / "a.txt").write_text("\n".join(SENTENCES))
    other = export_with_manifest(output.parent / "other", asset=b"other")
    manifest = json.loads((other / "manifest.json").read_text())
    assert manifest["files"]
    with pytest.raises(UserError, match=f"another model: .*{model_path}.*{other}"):
        embed(other, inputs, output, "--with-text")


def test_jsonl_and_records_hold_the_same(model_path, inputs, expected, tmp_path):
    (inputs / "b.jsonl").unlink()
    embed(model_path, inputs, tmp_path / "j", "--format", "jsonl")
    lines = [
        json.loads(line)
        for path in sorted((tmp_path / "j").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    embed(
        *(model_path, inputs, tmp_path / "t", "--format=tfrecord", "--with-text"),
        *("--values=int8", "--truncate-dim=4"),
    )
    paths = [str(path) for path in sorted((tmp_path / "t").glob("*.tfrecord"))]
    records = [
        tf.train.Example.FromString(record).features.feature
        for record in tf.data.TFRecordDataset(paths).as_numpy_iterator()
    ]
    assert len(records) == len(lines) == len(SENTENCES)
    for row, record, text in zip(lines, records, SENTENCES, strict=True):
        [id], [found] = record["id"].bytes_list.value, record["text"].bytes_list.value
        assert (id.decode(), found.decode()) == (row["id"], text)
        np.testing.assert_allclose(row["embedding"], expected[text], atol=1e-6)
        [codes] = record["embedding"].bytes_list.value
        codes = np.frombuffer(codes, np.int8).astype(float)
        cosine = codes @ expected[text][:4] / np.linalg.norm(codes)
        assert cosine / np.linalg.norm(expected[text][:4]) > 0.999


def test_an_endpoint_is_asked_in_the_version_that_it_had(
    model_path, inputs, expected, tmp_path
):
    with ThreadPoolExecutor(1) as executor:
        with server_in_thread(Servable(1, model_path, None, executor)) as server:
            flags = [
                *("embed", "--target", server.target, "--input", f"{inputs}/*"),
                *("--output", f"{tmp_path}/out", "--with-text"),
            ]
            main(flags)
            rows = rows_of(tmp_path / "out")
            assert len(rows) == 32
            for text, embedding in rows.values():
                np.testing.assert_allclose(embedding, expected[text], atol=1e-6)
            manifest = json.loads((tmp_path / "out/manifest.json").read_text())
            assert manifest["model"]["version"] == 1
        with server_in_thread(Servable(2, model_path, None, executor)) as server:
            flags[2] = server.target
            with pytest.raises(UserError, match="version 1.*there.*version 2.*now"):
                main(flags)
    with pytest.raises(UserError):
        main(flags)


class _Elsewhere(LocalFileSystem):
    """A file system that is none of this machine's: its files have addresses."""

    @classmethod
    def scheme(cls):
        return "elsewhere"

    def _here(self, path):
        return path.removeprefix("elsewhere:/")

    def _there(self, path):
        return f"elsewhere:/{path}"

    def join(self, base, *paths):
        return "/".join([base, *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def match(self, patterns, limits=None):
        found = super().match([self._here(each) for each in patterns], limits)
        for result in found:
            for about in result.metadata_list:
                about.path = self._there(about.path)
        return found

    def open(self, path, *args, **kwargs):
        return super().open(self._here(path), *args, **kwargs)

    def create(self, path, *args, **kwargs):
        return super().create(self._here(path), *args, **kwargs)

    def rename(self, sources, targets):
        super().rename([*map(self._here, sources)], [*map(self._here, targets)])


def test_models_inputs_and_outputs_may_stand_elsewhere(
    model_path, inputs, expected, tmp_path, capsys
):
    paths = [f"elsewhere:/{path}" for path in (model_path, inputs, tmp_path / "out")]
    embed(*paths, "--with-text")
    assert len(files(tmp_path / "out")) == 7
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 32
    for text, embedding in rows.values():
        np.testing.assert_allclose(embedding, expected[text], atol=1e-6)
    embed(*paths, "--with-text")
    assert "finished before" in capsys.readouterr().out


def test_a_pipeline_of_ones_own_embeds_rows(model_path, expected):
    rows = [{"text": text, "n": n} for n, text in enumerate(SENTENCES)]
    with beam.Pipeline("FnApiRunner") as pipeline:
        embedded = (
            pipeline
            | beam.Create([*rows, {"text": None}, "no row"])
            | EmbedTexts(SavedModelHandler(str(model_path)))
        )
        near = embedded.rows | beam.Map(
            lambda row: (
                row["n"],
                bool(np.allclose(row["embedding"], expected[row["text"]], atol=1e-6)),
            )
        )
        assert_that(near, equal_to([(n, True) for n in range(len(rows))]))
        reasons = embedded.dead_letters | beam.Map(lambda letter: letter["reason"][:25])
        wanted = ["expected a string under t", "expected a dictionary, re"]
        assert_that(reasons, equal_to(wanted), label="dead letters")


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--input", "nothing/*.txt"], "--input: no file nothing"),
        (["--processes", "0"], "--processes: expected 1 or more"),
        (["--processes=2", "--runner=SparkRunner"], "expected the DirectRunner"),
        (["--outptu", "x"], "--outptu: expected a flag of this command or of Beam"),
        (["--direct_num_workers=x"], "invalid int value: 'x'"),
        (["--runner", "Nobody"], "--runner: Unexpected pipeline runner: Nobody"),
        (["--shard-rows", "0"], "--shard-rows: expected 1 or more"),
        (["--truncate-dim", "9"], "at most the model's 8, received 9"),
        (["--prompt", "query"], "no signature serving_query"),
        (["--saved-model", "nowhere"], "--saved-model: nowhere"),
        (["--text", "body"], "has no columns"),
        (["--output", "in"], "expected an empty directory"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(model_path, inputs, monkeypatch, flags, part):
    monkeypatch.chdir(inputs.parent)
    (inputs / "b.jsonl").unlink()
    with pytest.raises(UserError, match=part) as raised:
        embed(model_path, inputs, "out", *flags)
    assert "\n" not in str(raised.value)


def test_rows_that_are_all_bad_are_a_mistake(model_path, inputs, tmp_path):
    (inputs / "a.txt").unlink()
    (inputs / "b.jsonl").write_text(BAD)
    with pytest.raises(UserError, match="none of 2 rows"):
        embed(model_path, inputs, tmp_path / "out", "--text", "text")


def test_a_damaged_export_is_refused(model_path, inputs, tmp_path):
    shutil.copytree(model_path, tmp_path / "1")
    graph = tmp_path / "1/saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match=r"saved_model\.pb is not as it was written"):
        embed(tmp_path / "1", inputs, tmp_path / "out")


@pytest.mark.attack
@pytest.mark.slow
def test_a_killed_process_loses_and_doubles_nothing(model_path, tmp_path):
    sentences = [f"Sentence {n}." for n in range(20000)]
    (tmp_path / "a.txt").write_text("\n".join(sentences))
    command = [
        *(sys.executable, "-m", "simcse_tf.pipeline", "embed"),
        *("--saved-model", str(model_path), "--input", str(tmp_path / "a.txt")),
        *("--output", str(tmp_path / "out"), "--shard-rows", "50", "--processes", "2"),
    ]
    killed = 0
    for attempt in range(4):
        process = subprocess.Popen(
            command, env=environment(), stderr=subprocess.PIPE, text=True
        )
        before = len(list((tmp_path / "out").glob("embeddings-*")))
        # The third time, the process that started the others.
        victim = _once_some_are_written(process, tmp_path / "out", before, attempt)
        _, told = process.communicate(timeout=240)
        if victim is None:
            break
        killed += 1
        if victim != process.pid:
            assert process.returncode == 75, told
            assert told.strip().splitlines()[-1].startswith("a worker was lost")
        _wait_for_the_end(victim)
    assert killed
    if process.returncode:
        subprocess.run(command, env=environment(), check=True, timeout=240)
    rows = rows_of(tmp_path / "out")
    assert set(rows) == {f"a.txt:{n}" for n in range(20000)}
    names = files(tmp_path / "out")
    assert len(names) == 401
    # Nothing of the killed ones is left, nor do they live.
    assert all(name.startswith(("embeddings-", "manifest")) for name in names)


def _once_some_are_written(process, output, before, attempt):
    while process.poll() is None:
        if len(list(output.glob("embeddings-*"))) > before + 20:
            children = Path(f"/proc/{process.pid}/task")
            workers = [
                int(pid)
                for task in children.iterdir()
                for pid in (task / "children").read_text().split()
            ]
            victim = process.pid if attempt == 2 else workers[attempt % len(workers)]
            os.kill(victim, signal.SIGKILL)
            return victim
        time.sleep(0.02)
    return None


def _wait_for_the_end(pid):
    for _ in range(500):
        if not Path(f"/proc/{pid}/stat").exists():
            return
        time.sleep(0.02)


def test_a_file_that_changes_meanwhile_is_named(
    model_path, inputs, tmp_path, monkeypatch
):
    def add_a_line(*arguments):
        with (inputs / "a.txt").open("a") as file:
            file.write("\none more")
        return run_pipeline(*arguments)

    run_pipeline = running.run_pipeline
    monkeypatch.setattr(running, "run_pipeline", add_a_line)
    with pytest.raises(UserError, match=r"a\.txt changed while it was read: wait"):
        embed(model_path, inputs, tmp_path / "out")
