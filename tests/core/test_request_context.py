"""What is read of a client's trace context, by the examples of W3C's recommendation."""

import contextvars

import pytest

from simcse_tf.core.request_context import (
    Request,
    answering,
    current,
    note,
    received,
    sane_id,
)

IDS = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
PARENT = f"00-{IDS}-01"


@pytest.mark.parametrize(
    "parent", [PARENT, f"00-{IDS}-00", f"cc-{IDS}-01", f"cc-{IDS}-01-what-comes-later"]
)
def test_a_trace_of_this_and_later_versions_is_taken(parent):
    assert received([("Traceparent", f" {parent}\t")]).traceparent == parent


@pytest.mark.parametrize(
    ("states", "taken"),
    [
        (["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"],) * 2,
        (["a=1 , t@v=2,", "b=3"], ["a=1,t@v=2,b=3"]),
        (["a=1,a=2"], [""]),
        ([f"a={'1' * 600}"], [""]),
    ],
    ids=["one", "several", "twice", "long"],
)
def test_a_tracestate_is_taken_whole_or_not(states, taken):
    headers = [("traceparent", PARENT), *(("tracestate", it) for it in states)]
    assert [received(headers).tracestate] == taken


def test_a_tracestate_without_its_trace_is_nothing():
    assert received([("tracestate", "a=1")]).tracestate == ""


def test_bytes_are_no_header():
    request = received([("traceparent", b"\xff"), ("x-request-id", b"a")])
    assert request.traceparent == ""
    assert len(request.id) == 32


@pytest.mark.parametrize("text", [None, b"a", "", "a b", "a\n", "é", "x" * 129])
def test_what_no_request_id_is(text):
    assert sane_id(text) == ""


def test_facts_are_noted_for_the_current_request_alone():
    request, other = Request("a"), Request("b")
    note(texts=3)
    with answering(request):
        note(texts=4)
        contextvars.Context().run(note, texts=5)
        with answering(other):
            note(texts=6)
        assert current() is request
    assert (request.texts, other.texts, current()) == (4, 6, None)
