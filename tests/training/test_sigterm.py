import os
import signal
import threading
from contextlib import suppress

import pytest

from simcse_tf.core.errors import Stopped, UserError
from simcse_tf.training.progress import Progress
from simcse_tf.training.sigterm import sigterm, stopped, stopping


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers_come_back():
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_what_is_being_done_and_says_how_to_go_on(number):
    reached = []
    with pytest.raises(Stopped) as caught, stopping() as stop:
        stop.advice = lambda: "pass --resume to resume"
        try:
            send(number)
            reached.append("the next line")
        finally:
            reached.append("what cleans up")
            send(number)
    assert str(caught.value) == f"stopped by {number.name}: pass --resume to resume"
    assert reached == ["what cleans up"]


def test_an_import_that_it_cuts_off_may_make_another_error_of_it():
    with pytest.raises(Stopped), stopping():
        try:
            send()
        except BaseException:
            raise ImportError("initialization failed") from None


def test_a_block_that_loses_nothing_by_waiting_is_asked():
    told = pytest.raises(Stopped, match="stopped by SIGHUP after step 3")
    with told, stopping(), sigterm() as must_stop:
        assert not must_stop()
        send(signal.SIGHUP)
        assert must_stop()
        raise stopped(Progress(3))


def test_one_that_came_while_it_waited_and_was_not_asked_for_is_not_lost():
    told = pytest.raises(Stopped, match="stopped by SIGTERM: the same command")
    with told, stopping():
        with sigterm():
            send()
        raise AssertionError


def test_one_that_was_swallowed_is_asked_for_later():
    with pytest.raises(Stopped), stopping():
        with suppress(BaseException):
            send()
        with sigterm() as must_stop:
            assert must_stop()
            raise stopped(Progress(1))


def test_what_is_wrong_while_it_waits_is_told():
    with pytest.raises(UserError), stopping(), sigterm():
        send()
        raise UserError("the disk is full")


def test_without_it_errors_are_what_they_are():
    with pytest.raises(ImportError), stopping():
        raise ImportError


def test_sighup_is_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_thread_cannot_receive_it():
    ended = []

    def run():
        with stopping(), sigterm() as must_stop:
            ended.append(must_stop())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ended == [False]


def test_alone_it_waits_too():
    with sigterm() as must_stop:
        send()
        assert must_stop()
        assert str(stopped(Progress(2))).startswith("stopped by SIGTERM after step 2")
