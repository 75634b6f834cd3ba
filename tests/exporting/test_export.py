import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.exports import unchecked
from support.forked import run_command
from support.models import ROOT, SENTENCES
from support.servers import running_server

from simcse_tf import SimCSE, quantization
from simcse_tf.client import Client
from simcse_tf.core import cli
from simcse_tf.core.errors import UserError
from simcse_tf.export import export, main
from simcse_tf.exporting import manifest, saved_model
from simcse_tf.exporting.check import TOLERANCES, Tolerance, check
from simcse_tf.exporting.signatures import signatures
from simcse_tf.exporting.warmup_requests import (
    BATCHES,
    WARMUP_FILE,
    answers,
    write_warmup,
)

pytestmark = pytest.mark.slow

# What one text may run in a model of two layers: some more than it does.
MOST_OPERATIONS = 700

ODD = ["", "a" * 10_000, "word " * 2_000, "🙂👩‍👩‍👧", b"\xff\xfe\x00 bad", "[SEP]"]


@pytest.fixture(scope="module")
def model(tiny_preset):
    return SimCSE.from_preset(str(tiny_preset), max_length=32)


@pytest.fixture(scope="module")
def command(tiny_preset, tmp_path_factory):
    """The command that has written `exported`, as a process of its own."""
    base = tmp_path_factory.mktemp("export")
    flags = ["--max-length", "32", "--truncate-dims", "5", "--quantize", "int8,binary"]
    model, output = ["--model", tiny_preset], ["--output", base]
    return run_command("simcse_tf.export", *model, *output, *flags, cwd=ROOT)


@pytest.fixture(scope="module")
def exported(command):
    assert command.returncode == 0, command.stderr
    return Path(command.stdout.removeprefix("version ").rstrip())


@pytest.fixture(scope="module")
def functions(exported):
    return tf.saved_model.load(str(exported)).signatures


@pytest.fixture
def no_tracing(exported, monkeypatch):
    """`export` of `model` copies the graph of `exported`, which takes no time."""
    others = shutil.ignore_patterns("assets.extra", "manifest.json")

    def copy_graph(model, wanted, directory):
        shutil.copytree(exported, directory, ignore=others, dirs_exist_ok=True)

    monkeypatch.setattr(saved_model, "_write_graph", copy_graph)
    return {"truncate_dims": [5], "quantize": ["int8", "binary"]}


@pytest.fixture
def copied(exported, tmp_path):
    """An export that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "base" / "1"))


def test_both_signatures_answer_as_the_model_does(model, functions):
    texts = [text.encode() for text in SENTENCES] + [
        text if isinstance(text, bytes) else text.encode() for text in ODD
    ]
    expected = model.predict(texts, verbose=0)
    received = functions["serving_default"](text=tf.constant(texts))["embedding"]
    np.testing.assert_allclose(received, expected, atol=1e-6)
    cosine = functions["similarity"](
        text_a=tf.constant(texts), text_b=tf.constant(texts[::-1])
    )
    np.testing.assert_allclose(
        cosine["cosine_similarity"], (expected * expected[::-1]).sum(1), atol=1e-6
    )


def test_names_types_and_shapes_are_the_served_interface(functions):
    for name, inputs, outputs in (
        ("serving_default", {"text"}, {"embedding": (None, 16)}),
        ("similarity", {"text_a", "text_b"}, {"cosine_similarity": (None,)}),
    ):
        signature = functions[name]
        received = signature.structured_input_signature[1]
        assert set(received) == inputs
        assert all(spec.dtype == tf.string for spec in received.values())
        assert {
            key: (tuple(spec.shape), spec.dtype)
            for key, spec in signature.structured_outputs.items()
        } == {key: (shape, tf.float32) for key, shape in outputs.items()}


@pytest.mark.parametrize("texts", [[], SENTENCES[:1], [*SENTENCES, *SENTENCES]])
def test_optional_signatures_are_what_numpy_makes_of_the_embeddings(
    model, functions, texts
):
    text = tf.constant(texts, tf.string)
    embeddings = model.predict(texts, verbose=0)
    for name, output, wanted in (
        ("serving_5", "embedding", quantization.truncate(embeddings, 5)),
        ("serving_int8", "embedding_int8", quantization.encode_int8(embeddings)),
        ("serving_binary", "embedding_bits", quantization.encode_binary(embeddings)),
    ):
        received = functions[name](text=text)[output].numpy()
        assert received.dtype == wanted.dtype
        # A component may be rounded to the other side.
        atol = 1 if wanted.dtype == np.int8 else 1e-6
        np.testing.assert_allclose(received, wanted, atol=atol)


@pytest.mark.parametrize(
    "texts", [[], [*SENTENCES, *ODD], [ODD[2], SENTENCES[0], *[ODD[2]] * 6]]
)
def test_tokens_are_counted_beside_the_embeddings(model, functions, texts):
    text = tf.constant(texts, tf.string)
    received = functions["serving_tokens"](text=text)
    embedding = functions["serving_default"](text=text)["embedding"]
    np.testing.assert_array_equal(received["embedding"], embedding)
    counts = [len(row) for row in model.tokens(text, 10**6).to_list()]
    assert received["tokens"].numpy().tolist() == [min(n, 32) for n in counts]
    assert received["truncated"].numpy().tolist() == [n > 32 for n in counts]
    assert received["tokens"].dtype == tf.int32


@pytest.fixture(scope="module")
def served(exported):
    """A session, the name of its texts and that of their embeddings.

    TF Serving restores variables by the graph's own ops, unlike TensorFlow 2.
    """
    with contextlib.closing(tf.compat.v1.Session(graph=tf.Graph())) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(exported))
        signature = loaded.signature_def["serving_default"]
        text, output = signature.inputs["text"], signature.outputs["embedding"]
        yield session, text.name, output.name


def test_a_session_runs_the_graph_as_tf_serving_does(model, served):
    session, text, output = served
    expected = model.predict(SENTENCES, verbose=0)
    received = session.run(output, {text: SENTENCES})
    np.testing.assert_allclose(received, expected, atol=1e-6)
    assert session.run(output, {text: np.array([], object)}).shape == (0, 16)


def operations_of(served, texts):
    """The kinds of operations that a session has run for some texts."""
    session, text, output = served
    full = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
    ran = tf.compat.v1.RunMetadata()
    session.run(output, {text: texts}, options=full, run_metadata=ran)
    return [
        node.timeline_label.partition(" = ")[2].partition("(")[0]
        for device in ran.step_stats.dev_stats
        for node in device.node_stats
    ]


def test_one_text_and_texts_of_similar_length_need_no_loop(served):
    """A loop's own operations take a short text as long as its products do."""
    one = operations_of(served, SENTENCES[:1])
    assert "MatMul" in "".join(one)
    assert "NextIteration" not in one
    assert len(one) < MOST_OPERATIONS
    # oneDNN, where TensorFlow uses it, computes GELU with the product before it.
    assert "_MklNativeFusedMatMul" not in one or "Erf" not in one
    assert "NextIteration" not in operations_of(served, ["a man", "a dog", "a dog"])
    mixed = [*"abcde", "word " * 200]
    assert "NextIteration" in operations_of(served, mixed)


def test_a_text_has_the_same_embedding_in_any_company(functions):
    texts = [text.encode() if isinstance(text, str) else text for text in ODD]
    texts = tf.constant([*map(str.encode, SENTENCES), *texts])
    together = functions["serving_default"](text=texts)["embedding"].numpy()
    for number in range(len(texts)):
        [alone] = functions["serving_default"](text=texts[number : number + 1])[
            "embedding"
        ].numpy()
        np.testing.assert_allclose(alone, together[number], atol=1e-6)


def test_every_weight_is_stored_once(model, exported):
    stored = tf.train.list_variables(str(exported / "variables" / "variables"))
    floats = sum(np.prod(shape, dtype=int) for _, shape in stored if shape)
    assert 0 < floats <= model.count_params()


def test_a_version_holds_warmup_requests_of_several_sizes_for_every_signature(exported):
    from tensorflow_serving.apis import prediction_log_pb2

    records = tf.data.TFRecordDataset(str(exported / WARMUP_FILE))
    sizes = {}
    for record in records:
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log
        rows = {len(tf.make_ndarray(it)) for it in log.request.inputs.values()}
        rows |= {len(tf.make_ndarray(it)) for it in log.response.outputs.values()}
        assert len(rows) == 1
        sizes.setdefault(log.request.model_spec.signature_name, []).extend(rows)
    names = {"serving_default", "similarity", "ready", "serving_tokens", "serving_5"}
    assert sizes.keys() == names | {"serving_int8", "serving_binary"}
    assert all(found == [len(texts) for texts in BATCHES] for found in sizes.values())


def test_versions_count_up_and_nothing_else_appears(model, tmp_path, no_tracing):
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    with unchecked():
        assert export(model, str(tmp_path), **no_tracing).name == "8"
    assert sorted(os.listdir(tmp_path)) == ["7", "8", "notes"]


def test_an_export_that_answers_otherwise_is_not_published(
    model, tmp_path, monkeypatch, no_tracing
):
    never = Tolerance(-1.0, -1, -1.0)
    monkeypatch.setitem(TOLERANCES, "float32", never)
    with pytest.raises(RuntimeError, match="embedding .* differs .* not published"):
        export(model, str(tmp_path / "base"), **no_tracing)
    assert os.listdir(tmp_path / "base") == []


def test_a_model_in_bfloat16_gives_nearly_the_same_float32(
    model, tiny_preset, tmp_path
):
    half = SimCSE.from_preset(str(tiny_preset), max_length=32, dtype="bfloat16")
    with unchecked():
        directory = export(half, str(tmp_path))
    serve = tf.saved_model.load(str(directory)).signatures["serving_default"]
    received = serve(text=tf.constant(SENTENCES))["embedding"].numpy()
    assert received.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(received, axis=1), 1, atol=1e-6)
    cosine = (received * model.predict(SENTENCES, verbose=0)).sum(axis=1)
    assert (cosine > 0.99).all()
    assert manifest.read_manifest(directory).model.precision == "bfloat16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncate_dims": [16]}, "--truncate-dims: expected 1 to 15 .* received 16"),
        ({"truncate_dims": [0]}, "--truncate-dims: expected 1 to 15 .* received 0"),
        ({"quantize": ["int4"]}, "--quantize: expected some of int8, binary, .* int4"),
    ],
)
def test_signatures_that_do_not_fit_are_refused_before_anything_is_written(
    model, tmp_path, options, message
):
    with pytest.raises(UserError, match=message):
        export(model, str(tmp_path), **options)
    assert os.listdir(tmp_path) == []


@pytest.fixture
def mistake(monkeypatch, capsys):
    """Runs the command line; returns its one line on stderr, but for its stages."""

    def run(*options):
        monkeypatch.chdir(ROOT)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.run(lambda: main(options))
        assert stopped.value.code == 2
        received = capsys.readouterr()
        assert received.out == ""
        lines = received.err.splitlines()
        (line,) = [each for each in lines if not each.startswith("export: ")]
        return line

    return run


def test_the_command_line_exports(command, functions):
    *_, output = command.args[: command.args.index("--max-length")]
    assert command.stdout == f"version {output}/1\n"
    assert os.listdir(output) == ["1"]
    traced = "serving_default, similarity, ready, serving_tokens, serving_5"
    assert f"export: tracing {traced}" in command.stderr
    long, short = functions["serving_default"](
        text=tf.constant(["a " * 40, "a " * 30])
    )["embedding"]
    np.testing.assert_allclose(long, short, atol=1e-6)


def test_the_command_line_tells_what_is_wrong(tiny_preset, copied, mistake):
    out = copied.parents[1] / "other"
    arguments = ["--model", str(tiny_preset), "--output", str(out), "--max-length"]
    assert "max_length must be between 2 and 64" in mistake(*arguments, "65")
    assert not out.exists()
    with (copied / WARMUP_FILE).open("ab") as file:
        file.write(b"x")
    assert mistake("--check", str(copied.parent)) == (
        f"error: {copied}: {WARMUP_FILE} is not as it was written (SHA-256)"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected --model and --output, or --check"),
        (["--check", "x", "--model", "y"], "--check takes no --model"),
        (["--check", "nowhere"], "--check: no directory nowhere"),
        (["--check", "tests"], "--check: no saved_model.pb in tests"),
        (["--model=m", "--output=o", "--truncate-dims=1,x"], "expected numbers such"),
        (
            ["--model=m", "--output=setup.py"],
            "--output: cannot write setup.py: it is not a d",
        ),
    ],
)
def test_a_wrong_flag_is_one_line(options, message, mistake):
    assert message in mistake(*options)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda it: _cut(it / "saved_model.pb"), "saved_model.pb is not as it was"),
        (lambda it: (it / WARMUP_FILE).unlink(), "warmup_requests is missing"),
        (lambda it: (it / "more").touch(), "more does not belong to it"),
        (lambda it: (it / "manifest.json").unlink(), "no manifest.json in it"),
        (lambda it: _cut(it / "manifest.json"), "manifest.json is not valid JSON"),
        (lambda it: (it / "manifest.json").write_text("{}"), "manifest.json: created"),
    ],
)
def test_what_is_wrong_with_a_damaged_export_is_reported(copied, damage, message):
    damage(copied)
    with pytest.raises(UserError, match=message):
        check(copied)


def _accept_files(directory):
    """Rewrites the manifest's hashes: only what the files do can now be wrong."""
    old = manifest.read_manifest(directory)
    manifest.write_manifest(directory, old.model, old.training, old.signatures)


def test_an_older_export_with_its_manifest_under_the_old_name_is_sound(copied, capsys):
    """Version 0.1.0 wrote the same JSON, in the same order, as `simcse.json`."""
    written = json.loads((copied / "manifest.json").read_text("utf-8"))
    (copied / "manifest.json").unlink()
    keys = ("created", "model", "training", "signatures", "versions", "content_hash")
    old = {key: written[key] for key in (*keys, "files")}
    (copied / "simcse.json").write_text(json.dumps(old, indent=2) + "\n", "utf-8")
    main(["--check", str(copied.parent)])
    printed = capsys.readouterr().out
    assert printed.startswith(f"{copied}: sound\n")
    names = "ready, serving_5, serving_binary, serving_default, serving_int8"
    assert names in printed
    assert "no hash says whether it was edited" in printed
    received = manifest.read_manifest(copied)
    assert received == manifest.Manifest.model_validate(old)
    _cut(copied / "simcse.json")
    with pytest.raises(UserError, match="simcse.json is not valid JSON"):
        check(copied)


def test_an_export_that_answers_as_another_model_is_not_sound(copied, tiny_preset):
    other = SimCSE.from_preset(str(tiny_preset), max_length=4)
    shutil.rmtree(copied / "assets.extra")
    write_warmup(
        copied, {None: answers(other)}, signatures(16, [5], ["int8", "binary"])
    )
    _accept_files(copied)
    with pytest.raises(UserError, match="embedding of serving_default differs"):
        check(copied)


def test_an_export_that_counts_otherwise_is_not_sound(copied, model):
    answered = [
        each._replace(truncated=np.roll(each.truncated, 1)) for each in answers(model)
    ]
    shutil.rmtree(copied / "assets.extra")
    wanted = signatures(16, [5], ["int8", "binary"])
    write_warmup(copied, {None: answered}, wanted)
    _accept_files(copied)
    with pytest.raises(UserError, match="truncated of serving_tokens differs"):
        check(copied)


def test_an_export_without_warmup_is_not_sound(copied):
    (copied / WARMUP_FILE).write_bytes(b"")
    _accept_files(copied)
    with pytest.raises(UserError, match="no warmup request for ready, serving_5"):
        check(copied)


def test_signatures_are_held_against_the_manifest(copied):
    old = manifest.read_manifest(copied)
    del old.signatures["serving_5"]
    manifest.write_manifest(copied, old.model, old.training, old.signatures)
    with pytest.raises(UserError, match="signatures are not those of manifest.json"):
        check(copied)


@pytest.mark.slow
@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.attack)])
def test_minilm_over_grpc_equals_predict_on_real_and_odd_texts(
    minilm, data_dir, tmp_path, count
):
    """The whole way: export, server process, gRPC, real sentences."""
    lines = (data_dir / "wiki_sentences.txt").read_text("utf-8").splitlines()[:count]
    texts = [*lines, *ODD]
    base = tmp_path / "base"
    with unchecked():
        export(minilm, str(base))
    # The server needs the export alone.
    moved = tmp_path / "moved"
    shutil.move(base, moved)
    with running_server(moved) as server, Client(server.target) as client:
        received = client.encode(texts)
        cosine = client.similarity(ODD, ODD[::-1])
    # By length, since `predict` pads a batch to its longest text.
    order = np.argsort([len(text) for text in texts], kind="stable")
    expected = np.empty_like(received)
    by_length = [texts[index] for index in order]
    expected[order] = minilm.predict(by_length, batch_size=64, verbose=0)
    np.testing.assert_allclose(received, expected, atol=1e-5)
    odd = expected[-len(ODD) :]
    np.testing.assert_allclose(cosine, (odd * odd[::-1]).sum(1), atol=1e-5)
