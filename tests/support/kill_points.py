"""Processes that die, or meet an error, before one chosen thing they do to files.

Counted is what Python code does: names made, moved and removed (audit hooks), files
opened, written and cut, what waits for the disk, locks, and the swap of two
directories. A write that dies has written half. What C code writes is not counted: it
does so inside of the directories that this package's writers make.
"""

import builtins
import errno
import io
import os
import pickle
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from simcse_tf.core import atomic

_NAMES = {
    f"os.{name}"
    for name in ("rename", "remove", "mkdir", "rmdir", "symlink", "link", "truncate")
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# What needs room on the disk.
_TAKES_ROOM = {"open", "write", "os.mkdir", "os.symlink", "fsync", "posix_fallocate"}

KILL, FULL, FAIL = "kill", "full", "fail"


class Outcome(NamedTuple):
    """What became of a process: what it did to files, and its error, if it lived."""

    points: list[str]
    error: BaseException | None
    was_killed: bool


def attempt(
    write: Callable[[Path], object], root: Path, mode: str = KILL, at: int | None = None
) -> Outcome:
    """Lets a function write in a directory, in a fork.

    Before its operation `at`, counted from 0, it is killed (`KILL`), or the disk is
    full from there on (`FULL`), or that one operation fails (`FAIL`).
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        _run(write, _Points(root, mode, at), writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return Outcome([], None, was_killed=True)
    return Outcome(*pickle.loads(told), was_killed=False)


def tree(root: Path) -> dict[str, bytes | str | None]:
    """Everything under a directory: a file's bytes, a link's target."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        content = None if path.is_dir() else path.read_bytes() if path.is_file() else ""
        content = os.readlink(path) if path.is_symlink() else content
        found[str(path.relative_to(root))] = content
    return found


def survives_kills(
    tmp_path: Path,
    prepare: Callable[[Path], object],
    write: Callable[[Path], object],
    outputs: Sequence[str],
    look=tree,
    check: Callable[[Path], object] = lambda place: None,
    every: int = 1,
) -> int:
    """Kills a writer everywhere, and runs it again; the number of places.

    Everywhere, or at every few places.

    Each of `outputs` is at every moment the old one or the new one, and `check` finds
    no fault. Afterwards everything is as it is without the kill.
    """
    before, after, points = _undisturbed(tmp_path, prepare, write, look)
    for at, point in [*enumerate(points)][::every]:
        place = _copy(tmp_path / "before", tmp_path / "killed")
        assert attempt(write, place, KILL, at).was_killed, point
        _each_is_whole(outputs, look(place), before, after, f"{at}: {point}")
        check(place)
        again = attempt(write, place)
        assert again.error is None, (at, point, again.error)
        assert look(place) == after, (at, point, differences(look(place), after))
    return len(points)


def survives_errors(
    tmp_path: Path,
    prepare: Callable[[Path], object],
    write: Callable[[Path], object],
    outputs: Sequence[str],
    look=tree,
    kept: frozenset[str] = frozenset(),
    every: int = 1,
) -> list[BaseException]:
    """Lets each operation fail, or the disk be full from there on; the errors.

    Each of `outputs` is then the old one or the new one, and nothing else is there but
    what `kept` says may stay. The next run ends as if nothing had been.
    """
    before, after, points = _undisturbed(tmp_path, prepare, write, look)
    errors = []
    for mode in (FULL, FAIL):
        for at, point in [*enumerate(points)][::every]:
            if mode == FULL and point not in _TAKES_ROOM:
                continue
            where = f"{mode} {at}: {point}"
            place = _copy(tmp_path / "before", tmp_path / "failed")
            failed = attempt(write, place, mode, at)
            now = look(place)
            if failed.error is not None:
                errors.append(failed.error)
            _each_is_whole(outputs, now, before, after, where)
            if mode == FULL:
                extra = now.keys() - before.keys() - after.keys() - kept
                assert not extra, (where, extra)
            again = attempt(write, place)
            assert again.error is None, (where, again.error)
            assert look(place) == after, (where, differences(look(place), after))
    return errors


def differences(one: dict, other: dict) -> list[str]:
    """The names that are in one alone, or are not the same."""
    return sorted(n for n in {*one, *other} if one.get(n, 0) != other.get(n, 0))


def _undisturbed(tmp_path, prepare, write, look):
    place = tmp_path / "before"
    place.mkdir()
    prepare(place)
    before = look(place)
    place = _copy(place, tmp_path / "after")
    done = attempt(write, place)
    assert done.error is None, done.error
    return before, look(place), done.points


def _copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target, symlinks=True))


def _each_is_whole(outputs, now, before, after, where):
    for name in outputs:
        found = _part(now, name)
        assert found in (_part(before, name), _part(after, name)), (where, name)


def _part(found: dict, name: str) -> dict:
    return {n: c for n, c in found.items() if n == name or n.startswith(f"{name}/")}


def _run(write, points, writing):
    error = None
    try:
        points.install()
        write(points.root)
    except BaseException as raised:
        error = raised
    points.active = False
    try:
        told = pickle.dumps((points.names, error))
    except Exception:
        told = pickle.dumps((points.names, RuntimeError(repr(error))))
    with open(writing, "wb") as pipe:
        pipe.write(told)
    os._exit(0)


class _Points:
    """Counts operations, and ends or fails the chosen one."""

    def __init__(self, root: Path, mode: str, at: int | None):
        self.names: list[str] = []
        self.active = True
        self.root = root
        self._mode = mode
        self._at = at
        self._thread = threading.get_ident()

    def install(self) -> None:
        sys.addaudithook(self._audit)
        # The machine lives on: nothing has to wait for its disk.
        os.fsync = self._counted("fsync", lambda descriptor: None)
        os.posix_fallocate = self._counted("posix_fallocate", os.posix_fallocate)
        atomic._exchange = self._counted("exchange", atomic._exchange)
        builtins.open = io.open = self._open

    def reach(self, name: str, before_death: Callable[[], object] = lambda: None):
        if not self.active:
            return
        number = len(self.names)
        self.names.append(name)
        if self._at is None or number < self._at:
            return
        if self._mode == KILL:
            self.active = False
            before_death()
            os.kill(os.getpid(), signal.SIGKILL)
        if self._mode == FULL and name in _TAKES_ROOM:
            before_death()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._mode == FAIL and number == self._at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _audit(self, event: str, arguments: tuple) -> None:
        if event in _NAMES or event == "fcntl.flock":
            self.reach(event)
        elif event == "open":
            path, _, flags = arguments
            if (
                isinstance(path, (str, bytes))
                and flags & _WRITING
                and os.path.abspath(os.fsdecode(path)).startswith(str(self.root))
            ):
                self.reach("open")

    def _counted(self, name, function):
        def counted(*arguments):
            self.reach(name)
            return function(*arguments)

        return counted

    def _open(self, file, mode="r", buffering=-1, encoding=None, errors=None,
              newline=None, closefd=True, opener=None):  # fmt: skip
        """`open`, with raw files that count what is written."""
        raw_mode = mode.replace("b", "").replace("t", "")
        raw = _File(file, raw_mode, closefd, opener)
        raw.points = self
        if buffering == 0:
            return raw
        kind = (
            io.BufferedRandom
            if "+" in mode
            else io.BufferedReader
            if raw_mode == "r"
            else io.BufferedWriter
        )
        buffered = kind(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline)


class _File(io.FileIO):
    points: _Points

    def write(self, data) -> int:
        half = bytes(data)[: len(data) // 2]
        self.points.reach("write", lambda: io.FileIO.write(self, half))
        return super().write(data)

    def truncate(self, size=None) -> int:
        self.points.reach("truncate")
        return super().truncate(size)
