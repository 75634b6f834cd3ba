"""What is told of a collector that takes no spans."""

import logging

from support.spans import SpanExporter, SpanExportResult

OK, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


class Collector(SpanExporter):
    """Ends each export as it is told."""

    def __init__(self, *ends):
        self.ends = list(ends)

    def export(self, spans):
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        if end is FAILURE:
            logger = logging.getLogger("opentelemetry.exporter.otlp")
            logger.warning("%d", 404)
            logger.error("gave up")
        return end


def test_a_collector_that_comes_and_goes_is_told_of_at_each_change(caplog, monkeypatch):
    from simcse_tf.core.trace_export import TellingExporter

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:secret@collector:4318")
    ends = [OK, FAILURE, OSError(), FAILURE, OK, OK, OSError("no such file")]
    exporter = TellingExporter(Collector(*ends))
    queue = logging.getLogger("opentelemetry.sdk.queue")
    told = []
    for _ in ends:
        before = len(caplog.messages)
        exporter.export([])
        told.append(caplog.messages[before:])
        queue.warning("full")
    assert [len(lines) for lines in told] == [0, 1, 0, 0, 1, 0, 1]
    start = "the collector at http://collector:4318 takes no spans, they are lost until"
    assert told[1] == [f"{start} it does: 404"]
    assert told[6] == [f"{start} it does: no such file"]
    assert caplog.messages.count("full") == 3  # while it took spans
    logging.getLogger("opentelemetry.sdk").setLevel(logging.NOTSET)
