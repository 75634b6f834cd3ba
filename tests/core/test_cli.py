import os
import subprocess
import sys

import pytest

from simcse_tf.core import cli
from simcse_tf.core.errors import Diverged, Stopped, UserError


def exit_code(main):
    with pytest.raises(SystemExit) as stopped:
        cli.run(main)
    return stopped.value.code


def test_success_is_exit_code_0(capsys):
    assert exit_code(lambda: None) == 0
    assert capsys.readouterr().err == ""


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys):
    def main():
        raise UserError("first\n  and second line")

    assert exit_code(main) == 2
    assert capsys.readouterr().err == "error: first and second line\n"


def test_a_wrong_flag_is_one_line_and_exit_code_2(capsys):
    parser = cli.Parser("simcse_tf.x")
    parser.add_argument("--n", type=int)
    assert exit_code(lambda: parser.parse_args(["--n", "many"])) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--n" in line
    assert "'many'" in line


def test_a_run_that_was_stopped_is_exit_code_75(capsys):
    def main():
        raise Stopped("stopped: resume")

    assert exit_code(main) == 75
    assert capsys.readouterr().err == "stopped: resume\n"


def test_ctrl_c_is_exit_code_130(capsys):
    def main():
        raise KeyboardInterrupt

    assert exit_code(main) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: print(1 / 0))


def test_a_run_that_diverged_is_exit_code_77(capsys):
    def main():
        raise Diverged("diverged at step 3: the loss is nan")

    assert exit_code(main) == 77
    assert capsys.readouterr().err == "error: diverged at step 3: the loss is nan\n"


def test_a_message_is_cut_and_cannot_command_the_terminal(capsys):
    def main():
        raise UserError("begin \x1b[2J " + "0" * 1_000_000 + " end")

    assert exit_code(main) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(r"error: begin \x1b[2J 000")
    assert line.endswith("000 end")
    assert len(line) < 1010


def test_a_wrong_flags_message_is_cut_and_cannot_command_the_terminal(capsys):
    parser = cli.Parser("simcse_tf.x")
    parser.add_argument("--n", type=int)
    assert exit_code(lambda: parser.parse_args(["--n", "\x1b[2J" + "9" * 5000])) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "\x1b" not in line
    assert len(line) < 1010


def command(code, stdout=subprocess.PIPE, **environment):
    """A command that runs `code`; its exit code, and what it wrote."""
    script = f"from simcse_tf.core import cli\ndef main():\n {code}\ncli.run(main)"
    return subprocess.run(
        [sys.executable, "-c", script],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": ""} | environment,
        timeout=60,
    )


@pytest.mark.parametrize(
    "code",
    [
        "[print('a line') for _ in range(100_000)]",
        "print('kept in the buffer until the end')",
        "cli.Parser('simcse_tf.x').parse_args(['--help'])",
    ],
)
def test_a_pipe_that_nobody_reads_is_no_traceback(code):
    reading, writing = os.pipe()
    os.close(reading)
    done = command(code, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout_is_one_line(unbuffered):
    with open("/dev/full", "w") as full:
        done = command("print('a line')", stdout=full, PYTHONUNBUFFERED=unbuffered)
    expected = b"error: cannot write to stdout: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, expected)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_what_a_terminal_cannot_show_is_an_escape(encoding):
    code = r"print('na\u00efve \u2192 \udcff')"
    done = command(code, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\udcff" in done.stdout


def test_a_warning_is_one_line_without_its_place_in_the_code():
    done = command("import warnings; warnings.warn('nothing is\\n ranked')")
    assert (done.returncode, done.stderr) == (0, b"warning: nothing is ranked\n")
