import errno
import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.core.locks import locked

HOLDER = """
import sys, time
from simcse_tf.core.locks import locked
with locked(sys.argv[1], "busy"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run" / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_holds_the_lock(tmp_path, holder):
    message = rf"^somebody trains here \(process {holder.pid} on "
    lock = locked(tmp_path / "run" / ".lock", "somebody trains here")
    with pytest.raises(UserError, match=message), lock:
        pass
    assert os.listdir(tmp_path / "run") == [".lock"]


def test_the_lock_of_a_killed_process_is_free(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / ".lock").exists()
    with locked(tmp_path / "run" / ".lock", "busy"):
        pass
    assert os.listdir(tmp_path / "run") == []


def test_one_process_cannot_take_it_twice(tmp_path):
    path = tmp_path / ".lock"
    refused = pytest.raises(UserError, match="busy")
    with locked(path, "busy"), refused, locked(path, "busy"):
        pass


def test_nothing_is_left_where_nothing_was(tmp_path):
    (tmp_path / "a").mkdir()
    with locked(tmp_path / "a" / "b" / "c" / ".lock", "busy"):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]
    with locked(tmp_path / "a" / "b" / "c" / ".lock", "busy"):
        (tmp_path / "a" / "b" / "result").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "result"]


def test_it_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / ".lock", "busy"):
        raise ZeroDivisionError
    with locked(tmp_path / ".lock", "busy"):
        pass


def test_many_processes_hold_it_one_after_another(tmp_path):
    """The file is removed each time: nobody may hold a file that has lost its name."""
    (tmp_path / "log").touch()
    children = []
    for _ in range(8):
        child = os.fork()
        if not child:
            _take_ten_times(tmp_path)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    log = (tmp_path / "log").read_text()
    assert log == "ab" * 80


def _take_ten_times(directory):
    taken = 0
    while taken < 10:
        try:
            with (
                locked(directory / ".lock", "busy"),
                open(directory / "log", "a") as log,
            ):
                log.write("a")
                log.flush()
                time.sleep(0.0005)
                log.write("b")
            taken += 1
        except UserError:
            time.sleep(0.0005)


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / ".lock", "busy"):
        pass
    assert "its file system has no locks (No locks available)" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ("/proc/nobody", "cannot lock /proc/nobody/.lock: No such file"),
        ("/dev/null", "cannot lock /dev/null/.lock: "),
        ("link", "cannot lock link/.lock: File exists"),
    ],
)
def test_a_place_where_no_file_can_be_is_told(tmp_path, monkeypatch, parent, message):
    monkeypatch.chdir(tmp_path)
    os.symlink("nowhere", "link")
    lock = locked(f"{parent}/.lock", "busy")
    with pytest.raises(UserError, match=message), lock:
        pass
