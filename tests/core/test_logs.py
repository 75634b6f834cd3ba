"""Lines of the log, as text and as JSON."""

import datetime
import json
import logging

import pytest

from simcse_tf.core import logs
from simcse_tf.core.request_context import Request, answering

FORGED = "a\nERROR forged\r\x1b[2J\u2028b\x85\x9b\ud800"
FORMATS = {"text": logs.TextLines(), "json": logs.JsonLines()}


def record(message, *arguments, error=None, **fields):
    exc_info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord(
        "simcse_tf.x", logging.ERROR, "x.py", 1, message, arguments, exc_info
    )
    setattr(made, logs.FIELDS, fields)
    return made


@pytest.mark.parametrize("formatter", FORMATS.values(), ids=FORMATS)
def test_a_record_is_one_line_without_control_characters(formatter):
    line = formatter.format(record("got %s", FORGED, path=FORGED))
    line.encode("utf-8")
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert "forged" in line


def test_no_line_of_a_traceback_looks_like_a_record():
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        broken = record("broken", error=error)
    first, *more = logs.TextLines().format(broken).split("\n")
    assert first.endswith("ERROR simcse_tf.x: broken")
    assert "ValueError" in "".join(more)
    for line in more:
        assert line.startswith("    ")
        assert line.isprintable()
    line = logs.JsonLines().format(broken)
    assert line.isprintable()
    assert "ValueError: a\nERROR forged" in json.loads(line)["exception"]


def test_json_has_the_time_in_utc_and_what_is_known():
    before = datetime.datetime.now(datetime.timezone.utc)
    with answering(Request("17", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")):
        line = json.loads(logs.JsonLines().format(record("%d texts", 3, texts=3)))
    time = datetime.datetime.fromisoformat(line.pop("time").replace("Z", "+00:00"))
    assert abs(time - before) < datetime.timedelta(seconds=10)
    assert line == {
        "level": "ERROR",
        "logger": "simcse_tf.x",
        "message": "3 texts",
        "request_id": "17",
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "texts": 3,
    }


def test_outside_of_a_request_there_are_no_ids():
    line = json.loads(logs.JsonLines().format(record("ready", texts=None)))
    assert set(line) == {"time", "level", "logger", "message"}
    assert logs.TextLines().format(record("ready", texts=None)).endswith(": ready")
