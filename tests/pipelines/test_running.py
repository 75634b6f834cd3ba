"""What Beam says went wrong, in one line."""

import apache_beam as beam
import pytest

from simcse_tf.core.errors import NotFinite, UserError
from simcse_tf.pipelines.running import _user_error_in, options_of, run_pipeline

TRACEBACK = """Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1512, in process
simcse_tf.core.errors.NotFinite: embeddings, row 3: expected finite numbers

During handling of the above exception, another exception occurred:

simcse_tf.core.errors.NotFinite: embeddings, row 3: expected finite numbers [while \
running 'Embed']
"""


def test_a_workers_mistake_of_the_user_is_found_in_its_traceback():
    told = _user_error_in(RuntimeError(TRACEBACK))
    assert told == "embeddings, row 3: expected finite numbers"
    assert _user_error_in(RuntimeError("ValueError: no")) is None


def test_counters_come_back_and_a_mistake_is_raised_as_it_was():
    def count(row):
        beam.metrics.Metrics.counter("simcse_tf", "rows").inc()
        if row == "bad":
            raise NotFinite("a row: expected finite numbers")
        return row

    options = options_of(["--runner=FnApiRunner"])

    def run(*rows):
        return run_pipeline(lambda p: p | beam.Create(rows) | beam.Map(count), options)

    assert run("one", "two") == {"rows": 2}
    with pytest.raises(UserError) as raised:
        run("bad")
    assert str(raised.value) == "a row: expected finite numbers"
