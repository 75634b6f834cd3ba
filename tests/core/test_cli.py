import pytest

from simcse_tf.core import cli
from simcse_tf.core.errors import Stopped, UserError


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
