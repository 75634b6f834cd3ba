"""What the commands write, killed and failing everywhere.

The model is a real one, but tiny. What it computes is computed once, before the forks.
"""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.kill_points import survives_errors, survives_kills
from support.models import SENTENCES, benchmark, word_piece

from simcse_tf import evaluate, figures, retrieve
from simcse_tf.client import __main__ as client
from simcse_tf.core import steady_lines
from simcse_tf.core.errors import UserError
from simcse_tf.datasets import grammar
from simcse_tf.encoding import file, model_encoder
from simcse_tf.model import bulk
from simcse_tf.training.sweep_summary import write_summary

STEPS = {"in.txt": 8, "other.txt": 4}
METRICS = {"in.txt": "spearman", "other.txt": "pearson"}


def arguments(*values):
    return list(map(str, values))


@pytest.fixture(scope="module")
def model():
    """With an optimizer's state, and hardly more numbers than its vocabulary has."""
    import keras
    import keras_hub

    from simcse_tf import SimCSE

    tokenizer = word_piece(4_000)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=tokenizer.vocabulary_size,
        num_layers=1,
        num_heads=1,
        hidden_dim=4,
        intermediate_dim=4,
        max_sequence_length=16,
    )
    model = SimCSE(backbone, tokenizer, max_length=16)
    model.compile(optimizer=keras.optimizers.Adam())
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def embeddings(model):
    """Of each sentence, as UTF-8."""
    rows = bulk.encode(model, SENTENCES)
    return {text.encode(): row for text, row in zip(SENTENCES, rows, strict=True)}


@pytest.fixture
def encode(model, embeddings, monkeypatch):
    """`encode` in blocks of two lines."""

    def look_up(model, blocks, *args, **kwargs):
        for block in blocks:
            yield np.stack([embeddings[line] for line in block])

    fingerprint = file.model_fingerprint(model)
    monkeypatch.setattr(bulk, "BLOCK", 2)
    monkeypatch.setattr(steady_lines, "_BLOCK", 3)
    monkeypatch.setattr(file, "encode_blocks", look_up)
    monkeypatch.setattr(file, "pays_to_compile", lambda model, lines: False)
    monkeypatch.setattr(file, "model_fingerprint", lambda model: fingerprint)
    return lambda path, name, output="o.npy", **form: file.encode_file(
        model, str(path / name), str(path / output), **form
    )


@pytest.fixture
def encode_lines(encode):
    """`encode` to a file that is written when all embeddings are there."""
    form = file.OutputForm("jsonl", "int8", truncate_dim=2, with_text=True)
    return lambda path, name: encode(path, name, "o.jsonl", form=form)


@pytest.fixture
def serve(embeddings, monkeypatch):
    """The client's file, from a server that has the same embeddings."""

    class Served:
        def no_embeddings(self, output):
            return np.empty((0, 4), np.float32)

        def encode_stream(self, lines, output, truncate):
            for line in lines:
                yield embeddings[line][None]

    @contextmanager
    def connect(*args, **kwargs):
        yield Served()

    monkeypatch.setattr(client, "_client", connect)
    return lambda path, name: client.main(
        arguments("--target", "localhost:1", "encode")
        + arguments("--input", path / name, "--output", path / "o.npy")
    )


def as_encoder(embeddings):
    return lambda sentences: np.stack([embeddings[text.encode()] for text in sentences])


@pytest.fixture
def find(embeddings, monkeypatch):
    monkeypatch.setattr(
        retrieve, "load_encoder", lambda *args, **kwargs: as_encoder(embeddings)
    )
    return lambda path, name: retrieve.main(
        arguments("--model", "m", "--queries", path / name)
        + arguments("--corpus", path / "in.txt", "--output", path / "found.txt")
    )


@pytest.fixture
def score(embeddings, monkeypatch):
    monkeypatch.setattr(
        model_encoder, "load_encoder", lambda *args, **kwargs: as_encoder(embeddings)
    )

    return lambda path, name: evaluate.main(
        arguments("--model", "m", "--data", path, "--tasks", "STS-B")
        + arguments("--metric", METRICS[name])
        + arguments("--json", path / "s.json", "--details", path / "d.json")
    )


@pytest.fixture
def checkpoint(model, monkeypatch, tmp_path_factory):
    """Its module; TensorFlow's variables do not live in a fork, but their values do."""
    from simcse_tf.training import checkpoint

    preset = tmp_path_factory.mktemp("preset")
    checkpoint.write_preset(model, preset)
    files = {
        path.name: path.read_bytes() for path in preset.rglob("*") if path.is_file()
    }
    named = checkpoint._variables(model)
    values = [
        (name, SimpleNamespace(numpy=variable.numpy().copy)) for name, variable in named
    ]

    def write_preset(model, directory):
        for name, content in files.items():
            (directory / name).write_bytes(content)

    monkeypatch.setattr(checkpoint, "write_preset", write_preset)
    monkeypatch.setattr(checkpoint, "_variables", lambda model: values)
    saved = SimpleNamespace(weights=[value for _, value in values])
    monkeypatch.setattr(checkpoint, "saved", saved, raising=False)
    return checkpoint


@pytest.fixture
def save_checkpoint(checkpoint):
    return lambda path, name: checkpoint.save(
        str(path), checkpoint.saved, checkpoint.Progress(STEPS[name])
    )


@pytest.fixture
def save_best(checkpoint):
    return lambda path, name: checkpoint.save_best(
        str(path), checkpoint.saved, {"step": STEPS[name]}
    )


@pytest.fixture
def sum_up(monkeypatch):
    """A sweep's table and plot, which is drawn once."""
    table = {
        "in.txt": {"a": {"avg dev": [70.0, 71.0]}, "b": {"avg dev": [60.0, 61.0]}},
        "other.txt": {"a": {"avg dev": [70.0]}, "b": {"avg dev": [60.0]}},
    }

    def draw(self, path, format, **kwargs):
        Path(path).write_bytes(b"a picture" * 1000)

    drawn = figures.sweep(["a", "b"], [[70.0, 71.0], [60.0, 61.0]], "avg")
    monkeypatch.setattr(figures, "sweep", lambda *args: drawn)
    monkeypatch.setattr(Figure, "savefig", draw)
    return lambda path, name: write_summary(path, table[name])


@pytest.fixture
def make_data():
    counts = {"in.txt": 6, "other.txt": 3}
    return lambda path, name: grammar.write(path / "data", counts[name])


# How it is written, and what must be whole all the time.
WRITERS = {
    "encode": ["o.npy"],
    "encode_lines": ["o.jsonl"],
    "serve": ["o.npy"],
    "find": ["found.txt"],
    "score": ["s.json", "d.json"],
    "save_checkpoint": ["last", *(f"checkpoints/step-0000000{i}" for i in (4, 8))],
    "save_best": ["best"],
    "sum_up": ["sweep.json", "sweep.md", "sweep.png", "sweep.svg"],
    "make_data": ["data/nli.csv", "data/pairs/dev.csv"],
}


@pytest.fixture(params=WRITERS)
def writer(request):
    """How a command writes, prepares what is there before, and what it writes."""
    write = request.getfixturevalue(request.param)

    def prepare(path, older=True):
        (path / "in.txt").write_text("\n".join(SENTENCES))
        (path / "other.txt").write_text("\n".join(SENTENCES[:3]))
        pairs = zip(SENTENCES, SENTENCES[1:] + SENTENCES[:1], strict=True)
        scored = [(i % 6, *pair) for i, pair in enumerate(pairs)]
        (path / "STS/STSBenchmark").mkdir(parents=True)
        file = path / "STS/STSBenchmark/sts-test.csv"
        file.write_text(benchmark(scored, "test"))
        if older:
            write(path, "other.txt")

    return lambda path: write(path, "in.txt"), prepare, WRITERS[request.param]


def has_a_checkpoint(path):
    last = path / "last"
    assert not last.is_symlink() or (last / "training_state.npz").is_file()


# A few places always, all of them where there is time.
EVERY = [13, pytest.param(1, marks=pytest.mark.attack)]


@pytest.mark.slow
@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("older", [True, False], ids=["over an older one", "anew"])
def test_a_command_killed_anywhere_is_run_again_as_if_nothing_had_been(
    writer, older, every, tmp_path
):
    write, prepare, outputs = writer
    points = survives_kills(
        tmp_path,
        lambda path: prepare(path, older),
        write,
        outputs,
        check=has_a_checkpoint,
        every=every,
    )
    assert points >= 9


@pytest.mark.slow
@pytest.mark.parametrize("every", EVERY)
def test_a_command_that_cannot_write_says_so_in_a_line_and_leaves_nothing(
    writer, every, tmp_path
):
    write, prepare, outputs = writer
    working = (".partial", ".partial.json")
    resumed = frozenset(name + end for name in outputs[:1] for end in working)
    errors = survives_errors(
        tmp_path, prepare, write, outputs, kept=resumed, every=every
    )
    assert errors
    # What is no command of its own raises what its command reports.
    assert {type(error) for error in errors} <= {UserError, OSError}
    for error in errors:
        assert "\n" not in str(error)
