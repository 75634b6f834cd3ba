"""Processes forked from one that has imported TensorFlow and not used it.

Each is a process of its own, as a user starts it, without the seconds that the imports
take. Most of the suite's time would otherwise be spent on them.
"""

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from simcse_tf.core import cli

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["simcse_tf.train", "simcse_tf.training.run", "scipy.stats", "simcse_tf.server.run"]
)
SECONDS = 300


class Forked:
    """A process, with the methods of `subprocess.Popen` that tests use.

    `stdout` and `stderr` can be read while it runs if `pipes` is true.
    """

    def __init__(self, run, source, arguments, cwd, environment, pipes=False):
        self._directory = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._directory.name, name) for name in ("out", "err")]
        if pipes:
            for path in self._outputs:
                os.mkfifo(path)
        self.args = [source, *map(str, arguments)]
        self._process = CONTEXT.Process(
            target=_begin, args=(run, self.args, cwd, environment, self._outputs)
        )
        self._process.start()
        self.pid = self._process.pid
        if pipes:
            self.stdout, self.stderr = (path.open() for path in self._outputs)

    @property
    def returncode(self):
        return self._process.exitcode

    def kill(self):
        self._process.kill()
        self._process.join()

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def terminate(self):
        self._process.terminate()

    def close(self):
        """Ends it and closes its pipes."""
        self.kill()
        for pipe in (self.stdout, self.stderr):
            pipe.close()

    def wait(self, timeout=SECONDS):
        """Waits for the end; the exit code."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout=SECONDS):
        """Waits for the end; what was written on stdout and stderr."""
        self.wait(timeout)
        return tuple(path.read_text("utf-8", "replace") for path in self._outputs)


def start_command(module, *arguments, cwd, pipes=False, **environment):
    """Starts `python -m MODULE ARGUMENTS`."""
    return Forked(_run_module, module, arguments, cwd, environment, pipes)


def start_script(script, *arguments, cwd, **environment):
    """Starts `python -c SCRIPT ARGUMENTS`."""
    return Forked(_run_script, script, arguments, cwd, environment)


def run_command(module, *arguments, cwd, **environment):
    """Runs `python -m MODULE ARGUMENTS` to its end, as `subprocess.run` does."""
    return _completed(start_command(module, *arguments, cwd=cwd, **environment))


def run_script(script, *arguments, cwd, **environment):
    """Runs `python -c SCRIPT ARGUMENTS`, which must succeed."""
    done = _completed(start_script(script, *arguments, cwd=cwd, **environment))
    assert done.returncode == 0, done.stderr
    return done


def _completed(process):
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _begin(run, arguments, cwd, environment, outputs):
    os.chdir(cwd)
    os.environ.update(environment)
    for path, descriptor in zip(outputs, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    # Those of the server took their files for others.
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    source, *rest = arguments
    sys.argv = ["-c", *rest]
    run(source)


def _run_module(module):
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):
        found = importlib.import_module(f"{module}.__main__")
    cli.run(found.main)


def _run_script(script):
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})
