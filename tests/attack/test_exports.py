"""Exports on full disks, several at once, damaged, edited, and of broken models."""

import errno
import json
import os
import resource
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.exports import leave_unchecked
from support.forked import run_command, run_script, start_command
from support.kill_points import FAIL, FULL, KILL, attempt
from support.servers import assert_one_line_mistake, run_here

from simcse_tf import SimCSE
from simcse_tf.core import atomic
from simcse_tf.core.contents import contents_of
from simcse_tf.core.errors import UserError
from simcse_tf.export import main
from simcse_tf.exporting import manifest, saved_model, sentence_transformers
from simcse_tf.exporting import warmup_requests as warmup
from simcse_tf.exporting.check import check
from simcse_tf.exporting.saved_model import export
from simcse_tf.exporting.sentence_transformers import export_sentence_transformers
from simcse_tf.exporting.versions import next_version, publish

MANIFEST = "manifest.json"
GRAPH = "saved_model.pb"


@pytest.fixture(scope="module")
def model(tiny_preset):
    return SimCSE.from_preset(str(tiny_preset), max_length=16)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export(model, str(tmp_path_factory.mktemp("export")), source="runs/a/best")


@pytest.fixture
def copied(exported, tmp_path):
    return Path(shutil.copytree(exported, tmp_path / "1"))


@pytest.fixture(scope="module")
def embeddings(model):
    return warmup.answers(model)


@pytest.fixture
def answered(embeddings, monkeypatch):
    """`export` knows the model's answers."""
    monkeypatch.setattr(warmup, "answers", lambda model, prompt: embeddings)


@pytest.fixture
def graph_copied(exported, answered, monkeypatch):
    """`export` links the files of a graph, which takes neither time nor room."""
    others = shutil.ignore_patterns("assets.extra", MANIFEST)

    def copy_graph(model, wanted, directory):
        directory.rmdir()
        shutil.copytree(exported, directory, ignore=others, copy_function=os.link)

    monkeypatch.setattr(saved_model, "_write_graph", copy_graph)


@pytest.fixture
def no_reservation(monkeypatch):
    for module in (saved_model, sentence_transformers):
        monkeypatch.setattr(module, "check_room", lambda directory, size: None)


@pytest.fixture
def largest_file():
    """What the kernel does beyond a size is what it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


TOO_LARGE = "^--output: cannot write .*: File too large$"
# From the first byte to what the weights and the graph need.
SIZES = [0, 1, 50, 500, 5_000, 20_000, 40_000, 50_000, 100_000, 200_000, 250_000]
SIZES += [270_000, 275_000, 500_000, 900_000]
SOME_SIZES = [3, pytest.param(1, marks=pytest.mark.attack)]


@pytest.mark.parametrize("every", SOME_SIZES)
@pytest.mark.parametrize("write", [export, export_sentence_transformers])
def test_a_disk_without_room_is_one_line_and_leaves_nothing(
    write, model, tmp_path, largest_file, answered, every
):
    for size in SIZES[:-3:every]:
        largest_file(size)
        with pytest.raises(UserError, match=TOO_LARGE):
            write(model, str(tmp_path / "base"))
        assert not list(tmp_path.rglob("*/*"))


@pytest.mark.parametrize(
    "sizes", [[50, 270_000], pytest.param(SIZES, marks=pytest.mark.attack)]
)
def test_a_disk_that_fills_up_while_an_export_writes_is_one_line(
    model, tmp_path, largest_file, no_reservation, answered, sizes
):
    for size in sizes:
        largest_file(size)
        with pytest.raises(UserError, match=TOO_LARGE):
            export(model, str(tmp_path))
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("every", SOME_SIZES)
def test_each_file_that_cannot_be_written_is_one_line(
    model, tmp_path, largest_file, no_reservation, graph_copied, every
):
    """Whichever writer meets the full disk: Python, TensorFlow or safetensors."""
    for size in SIZES[:7:every]:
        largest_file(size)
        with pytest.raises(UserError, match=TOO_LARGE):
            export(model, str(tmp_path))
        assert os.listdir(tmp_path) == []
    for size in SIZES[:-3:every]:
        largest_file(size)
        with pytest.raises(UserError, match=TOO_LARGE):
            export_sentence_transformers(model, str(tmp_path / "out"))
        assert os.listdir(tmp_path) == []


@pytest.mark.attack
def test_a_small_disk_is_one_line_or_holds_a_sound_version(model, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    for kilobytes in (4, 64, 1000, 2000, 3000, 4000, 5000, 6000, 9000):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk")
        try:
            try:
                check(export(model, str(disk / "base")))
            except UserError as error:
                assert str(error).endswith("No space left on device")
                assert not list(disk.rglob("*[0-9]*"))
        finally:
            subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EIO, os.strerror(errno.EIO)),
        tf.errors.ResourceExhaustedError(None, None, "a; No space left on device"),
        tf.errors.UnknownError(None, None, "{{node b}} c; Input/output error\nd"),
    ],
)
@pytest.mark.parametrize("point", ["_write_graph", "_write_manifest", "publish"])
def test_what_fails_in_the_middle_is_one_line(
    model, tmp_path, monkeypatch, graph_copied, point, error
):
    def fail(*arguments):
        raise error

    leave_unchecked(monkeypatch)
    monkeypatch.setattr(saved_model, point, fail)
    words = "(No space left on device|Input/output error)$"
    with pytest.raises(UserError, match=f"^--output: cannot write .*: {words}"):
        export(model, str(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.fixture
def write_quickly(model, graph_copied, monkeypatch):
    """`export` without TensorFlow's threads, which a fork does not have."""
    monkeypatch.setattr(saved_model, "checked_weights", lambda model: 2**20)
    leave_unchecked(monkeypatch)
    return lambda place: export(model, str(place / "base"))


def whole_versions(place, exported):
    """The versions in a base directory, each of which has all of its files."""
    found = [path for path in (place / "base").glob("*") if path.name[0] != "."]
    for version in found:
        assert contents_of(version).files == contents_of(exported).files
        manifest.read_manifest(version)
    return sorted(version.name for version in found)


# A few places always, all of them where there is time.
EVERY = [7, pytest.param(1, marks=pytest.mark.attack)]


@pytest.mark.slow
@pytest.mark.parametrize("every", EVERY)
def test_an_export_that_is_killed_anywhere_leaves_whole_versions(
    write_quickly, exported, tmp_path, every
):
    (tmp_path / "whole").mkdir()
    points = attempt(write_quickly, tmp_path / "whole").points
    assert len(points) > 20
    for at, point in [*enumerate(points)][::every]:
        place = tmp_path / str(at)
        place.mkdir()
        assert attempt(write_quickly, place, KILL, at).was_killed, point
        there = whole_versions(place, exported)
        assert there in ([], ["1"]), point
        assert attempt(write_quickly, place).error is None, point
        assert whole_versions(place, exported) == [*there, str(len(there) + 1)]
        assert not [*(place / "base").glob(".*")], point


@pytest.mark.slow
@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("mode", [FULL, FAIL])
def test_an_export_that_fails_anywhere_is_one_line(
    write_quickly, exported, tmp_path, mode, every
):
    (tmp_path / "whole").mkdir()
    points = attempt(write_quickly, tmp_path / "whole").points
    told = 0
    for at, point in [*enumerate(points)][::every]:
        place = tmp_path / str(at)
        place.mkdir()
        failed = attempt(write_quickly, place, mode, at)
        there = whole_versions(place, exported)
        if failed.error is None:
            assert there == ["1"], point
        else:
            told += 1
            assert type(failed.error) is UserError, (point, failed.error)
            assert "--output: cannot write " in str(failed.error)
        assert attempt(write_quickly, place).error is None, point
        assert whole_versions(place, exported) == [*there, str(len(there) + 1)]
        assert not [*(place / "base").glob(".*")], point
    assert told > 10 // every


def test_exports_that_end_together_have_numbers_of_their_own(tmp_path):
    (tmp_path / "base" / "7").mkdir(parents=True)

    def write(number):
        with atomic.workplace(tmp_path / "base" / "export") as place:
            (place / "version").mkdir()
            (place / "version" / "who").write_text(str(number))
            return publish(place / "version", tmp_path / "base")

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(write, range(64)))
    assert sorted(int(path.name) for path in found) == [*range(8, 72)]
    assert [int((path / "who").read_text()) for path in found] == [*range(64)]
    assert len(os.listdir(tmp_path / "base")) == 65


def test_the_last_number_has_no_next_one(tmp_path):
    (tmp_path / str(2**63 - 1)).mkdir()
    with pytest.raises(UserError, match="--output: .* has the last number there is"):
        next_version(tmp_path)
    (tmp_path / "0009").mkdir()
    (tmp_path / "٣").mkdir()
    (tmp_path / str(2**63 - 1)).rmdir()
    assert next_version(tmp_path) == 10


@pytest.mark.attack
def test_three_exports_at_once_are_three_versions(tiny_preset, tmp_path):
    base = tmp_path / "base"
    dead = base / ".export.new-k3x9w2ab.simcse"
    (dead / "version").mkdir(parents=True)
    (dead / ".simcse.lock").touch()
    arguments = ["--model", tiny_preset, "--output", base]
    running = [
        start_command("simcse_tf.export", *arguments, cwd=tmp_path) for _ in range(3)
    ]
    for each in running:
        assert each.wait() == 0, each.communicate()
    assert sorted(os.listdir(base)) == ["1", "2", "3"]
    run_command("simcse_tf.export", "--check", base / "2", cwd=tmp_path)


def test_two_exports_into_one_directory_of_a_name_are_one_and_a_line(
    model, tmp_path, monkeypatch
):
    write = sentence_transformers.write_modules

    def write_and_be_late(model, directory):
        write(model, directory)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()

    monkeypatch.setattr(sentence_transformers, "write_modules", write_and_be_late)
    with pytest.raises(UserError, match="--output: cannot write .*out: File exists"):
        export_sentence_transformers(model, str(tmp_path / "out"))
    assert os.listdir(tmp_path / "out") == ["theirs"]
    assert os.listdir(tmp_path) == ["out"]


def occupy(path, kind):
    path.parent.mkdir(exist_ok=True)
    {
        "a file": path.touch,
        "a pipe": lambda: os.mkfifo(path),
        "a link to nothing": lambda: path.symlink_to("nowhere"),
        "a link to itself": lambda: path.symlink_to(path),
        "a file above it": lambda: None,
        "a version": lambda: (path.mkdir(), (path / GRAPH).touch()),
    }[kind]()


@pytest.mark.parametrize("form", ["saved_model", "sentence-transformers"])
@pytest.mark.parametrize(
    "kind",
    ["a file", "a pipe", "a link to nothing", "a link to itself", "a version"],
)
def test_an_output_that_is_no_place_is_one_line_before_the_model_is_loaded(
    tmp_path, capsys, form, kind
):
    occupy(tmp_path / "base", kind)
    flags = ["--model", "nowhere", "--format", form, "--output"]
    done = run_here(main, capsys, *flags, tmp_path / "base")
    assert_one_line_mistake(done, "--output: ", "base")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("x" * 256, "a name has 256 bytes"),
        ("x\0y", "null byte"),
        ("/dev/null/base", "is not a writable directory"),
    ],
)
def test_an_output_with_an_impossible_name_is_one_line(capsys, output, words):
    done = run_here(main, capsys, "--model", "nowhere", "--output", output)
    assert_one_line_mistake(done, "--output: cannot write ", words)


def test_the_models_own_directory_is_no_place_for_versions(
    tiny_preset, tmp_path, capsys
):
    (tmp_path / "link").symlink_to(tiny_preset)
    done = run_here(main, capsys, "--model", tiny_preset, "--output", tmp_path / "link")
    assert_one_line_mistake(done, "link is the model's directory")


EDITS = {
    "created": lambda it: it.update(created="2020-01-01T00:00:00+00:00"),
    "source": lambda it: it["model"].update(source="princeton-nlp/sup-simcse"),
    "pooling": lambda it: it["model"].update(pooling="avg"),
    "length": lambda it: it["model"].update(max_length=512),
    "parameters": lambda it: it["model"].update(parameters=1),
    "precision": lambda it: it["model"].update(precision="bfloat16"),
    "versions": lambda it: it["versions"].update(tensorflow="1.0"),
    "training": lambda it: it.update(
        training={"data": "d", "config": {}, "dev": {"avg": 99.9}, "test": None}
    ),
    "content hash": lambda it: it.update(content_hash="0" * 64),
    "own hash": lambda it: it.update(manifest_hash="0" * 64),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_manifest_is_not_sound(copied, edit):
    values = json.loads((copied / MANIFEST).read_text())
    edit(values)
    (copied / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(UserError, match="manifest.json is not as it was written"):
        check(copied)


def test_a_manifest_that_is_only_laid_out_otherwise_is_sound(copied):
    values = json.loads((copied / MANIFEST).read_text())
    (copied / MANIFEST).write_text(json.dumps(values, sort_keys=True))
    assert check(copied).records


def listen(path):
    # A socket's name may have 108 bytes.
    before = os.getcwd()
    os.chdir(path.parent)
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(before)


@pytest.mark.parametrize(
    ("name", "put", "words"),
    [
        ("more", Path.touch, "more does not belong to it"),
        ("variables/more", Path.touch, "variables/more does not belong to it"),
        ("more", Path.mkdir, "the directory more does not belong to it"),
        ("pipe", os.mkfifo, "pipe: expected files and"),
        ("assets/pipe", os.mkfifo, "assets/pipe: expected files and"),
        ("socket", listen, "socket: expected files and"),
        ("link", lambda it: it.symlink_to(GRAPH), "link does not belong to it"),
        ("link", lambda it: it.symlink_to("gone"), "link: expected files and"),
        ("link", lambda it: it.symlink_to("."), "link: expected files and"),
        ("link", lambda it: it.symlink_to("/etc"), "link: expected files and"),
        ("null", lambda it: it.symlink_to("/dev/null"), "null: expected files and"),
        (MANIFEST, os.mkfifo, "no manifest.json in it"),
        (GRAPH, os.mkfifo, "saved_model.pb: expected files and"),
    ],
)
def test_what_does_not_belong_to_an_export_is_named(copied, name, put, words):
    (copied / name).unlink(missing_ok=True)
    put(copied / name)
    with pytest.raises(UserError, match=words):
        check(copied)


def test_a_link_to_a_file_as_it_was_written_is_that_file(copied, tmp_path):
    """As in the directories that a hub's client makes."""
    (copied / GRAPH).rename(tmp_path / "blob")
    (copied / GRAPH).symlink_to(tmp_path / "blob")
    assert check(copied).records


def damages(content):
    """Ways in which a file of some bytes may be damaged; `None`: it is missing."""
    middle = len(content) // 2
    yield None
    yield b""
    yield content[:1]
    yield content[:middle]
    yield content[:-1]
    yield content + b"\0"
    yield content[::-1]
    yield bytes([content[0] ^ 1]) + content[1:]
    yield content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :]
    yield content[: middle - 4] + bytes(8) + content[middle + 4 :]
    yield bytes(len(content))


def test_each_damaged_file_is_told_in_one_line(copied):
    files = sorted(path for path in copied.rglob("*") if path.is_file())
    cases = 0
    for path in files:
        whole = path.read_bytes()
        for content in damages(whole):
            if content in (whole, whole.rstrip(b"\n")):
                continue  # no damage: zeros over zeros, a line's end
            cases += 1
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            with pytest.raises(UserError, match=f"{path.name}|manifest"):
                check(copied)
        path.write_bytes(whole)
    assert cases >= 64
    assert check(copied).records


def accept_files(directory):
    """Rewrites the hashes: only what the files do can be wrong then."""
    old = manifest.read_manifest(directory)
    manifest.write_manifest(directory, old.model, old.training, old.signatures)


CHECK_DAMAGES = """
import random, shutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from attack.test_exports import GRAPH, accept_files, damages
from simcse_tf.core.errors import UserError
from simcse_tf.exporting.check import check
version = Path(sys.argv[1])
names = [GRAPH, "variables/variables.index", "variables/variables.data-00000-of-00001"]
names.append("assets.extra/tf_serving_warmup_requests")
draw = random.Random(5)
told = sound = 0
for name in names:
    path = version / name
    whole = path.read_bytes()
    flipped = []
    for _ in range(12):
        content = bytearray(whole)
        content[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        flipped.append(bytes(content))
    for content in [*damages(whole), *flipped]:
        path.unlink() if content is None else path.write_bytes(content)
        accept_files(version)
        try:
            check(version)
            sound += 1
        except UserError:
            told += 1
    path.write_bytes(whole)
print(told, sound)
"""


@pytest.mark.attack
def test_damage_that_the_hashes_do_not_show_is_told_or_harmless(copied):
    """An attacker may write the hashes anew: no traceback, and the process lives."""
    tests = Path(__file__).parents[1]
    done = run_script(CHECK_DAMAGES, copied, tests, cwd=copied.parent)
    told, sound = map(int, done.stdout.split())
    assert told + sound == 92
    assert told > 60


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("write", [export, export_sentence_transformers])
def test_a_model_whose_weights_are_not_finite_is_not_exported(
    tiny_preset, tmp_path, write, value
):
    broken = SimCSE.from_preset(str(tiny_preset), max_length=16)
    table = broken.backbone.token_embedding.embeddings
    # One token that no recorded request has.
    numbers = table.numpy()
    numbers[-1, 3] = value
    table.assign(numbers)
    with pytest.raises(
        UserError, match="weights: .*embeddings.* holds NaN or infinity"
    ):
        write(broken, str(tmp_path / "out"))
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_an_export_with_weights_that_are_not_finite_is_not_sound(
    tiny_preset, tmp_path, monkeypatch
):
    broken = SimCSE.from_preset(str(tiny_preset), max_length=16)
    table = broken.backbone.token_embedding.embeddings
    numbers = table.numpy()
    numbers[-1, 3] = np.nan
    table.assign(numbers)
    monkeypatch.setattr(saved_model, "checked_weights", lambda model: 1)
    leave_unchecked(monkeypatch)
    version = export(broken, str(tmp_path))
    with pytest.raises(UserError, match="the weight .*, row 4000: .* received nan"):
        check(version)


def test_recorded_answers_that_are_not_finite_are_not_sound(copied, model):
    answered = [
        each._replace(embedding=np.full_like(each.embedding, np.nan))
        for each in warmup.answers(model)
    ]
    shutil.rmtree(copied / "assets.extra")
    from simcse_tf.exporting.signatures import signatures

    warmup.write_warmup(copied, {None: answered}, signatures(16))
    accept_files(copied)
    with pytest.raises(UserError, match="as recorded, row 1: .* received nan"):
        check(copied)
