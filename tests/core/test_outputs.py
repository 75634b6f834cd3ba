import os
import re
import socket
import sys

import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.core.outputs import output_file, writing_output


def refused(path, inputs=()):
    with pytest.raises(UserError) as error:
        output_file("--output", path, inputs)
    message = str(error.value)
    assert message.startswith("--output: cannot write ")
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_a_file_that_can_be_written_is_where_its_name_leads(tmp_path):
    assert output_file("--output", tmp_path / "new") == tmp_path / "new"
    assert output_file("--output", tmp_path / "a/b/c") == tmp_path / "a/b/c"
    (tmp_path / "old").touch()
    assert output_file("--output", tmp_path / "old") == tmp_path / "old"
    for target in ("old", "not there yet"):
        link = tmp_path / f"link to {target}"
        link.symlink_to(target)
        assert output_file("--output", link) == tmp_path / target
    assert output_file("--output", tmp_path / ("x" * 255))
    assert os.listdir(tmp_path).count("new") == 0


def test_what_is_no_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    for name in ("pipe", "link", "socket", "/dev/null", "/dev/full", "/dev/stdin"):
        if name != "/dev/stdin" or not os.path.isfile(name):
            assert "a device or a pipe" in refused(tmp_path / name)
    assert "a directory" in refused(tmp_path)
    assert "a directory" in refused("/")
    assert (tmp_path / "pipe").is_fifo()


def test_where_the_command_prints_is_no_output(tmp_path, monkeypatch):
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "__stdout__", log)
        assert "prints" in refused(tmp_path / "log")
        assert "prints" in refused(f"/proc/self/fd/{log.fileno()}")


def test_what_is_read_is_never_replaced(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").touch()
    read = tmp_path / "in.txt"
    read.touch()
    (tmp_path / "symbolic").symlink_to(read)
    (tmp_path / "hard").hardlink_to(read)
    (tmp_path / "models").symlink_to("model")
    inputs = [None, "hf://org/name", "x" * 5000, read, tmp_path / "model"]
    for name in ("in.txt", "symbolic", "hard", "model/../in.txt"):
        assert "which is read" in refused(tmp_path / name, inputs)
    for name in ("model/weights", "models/weights"):
        assert "which is read" in refused(tmp_path / name, inputs)
    assert output_file("--output", tmp_path / "model/new", inputs)
    assert output_file("--output", tmp_path / "in.txt.npy", inputs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 256, "too long"),
        ("new/" + "ü" * 128, "256 bytes"),
        ("x/" * 3000, "too long"),
        ("a\0b", "null"),
        ("\ud800", "surrogates"),
        ("loop", "[Ll]oop|symbolic"),
        ("file/below", "not a writable directory|Not a directory"),
    ],
)
def test_what_can_be_no_files_name_is_told(tmp_path, name, message):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    assert re.search(message, refused(tmp_path / name))


@pytest.mark.parametrize("kind", ["python", "hdf5", "tensorflow"])
def test_why_a_file_was_not_written_is_one_line(kind):
    from tensorflow import errors

    raised = {
        "python": OSError(28, "ignored", "o.npy"),
        "hdf5": OSError(28, "Can't write (time = 1, errno = 28, buf = 0x7f)"),
        "tensorflow": errors.ResourceExhaustedError(
            None, None, "{{function_node f}} o.npy; No space left on device\n\t [Op:S]"
        ),
    }[kind]
    with (
        pytest.raises(
            UserError, match=r"^-o: cannot write o: No space left on device$"
        ),
        writing_output("-o", "o"),
    ):
        raise raised
    with pytest.raises(KeyError), writing_output("-o", "o"):
        raise KeyError
