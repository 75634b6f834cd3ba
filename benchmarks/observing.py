"""What ids, spans and the access log cost a request, in time of the processor.

    python benchmarks/observing.py

In turn, in one process: calls of a gRPC server that only admits them, observed or not,
and what a request meets of it all in client and server, alone. Without OpenTelemetry;
with its API and no provider; with its SDK, where each request has four spans.
"""

import argparse
import asyncio
import logging
import statistics
import time

import grpc

from simcse_tf.client.spans import rpc_span
from simcse_tf.core import logs, tracing
from simcse_tf.core.request_context import answering, current, received
from simcse_tf.server.admission import AdmissionInterceptor
from simcse_tf.server.observed_requests import ObservingInterceptor

METHOD = "/tensorflow.serving.PredictionService/Predict"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
METADATA = (("user-agent", "benchmark"), ("traceparent", TRACEPARENT))


class Request:
    """A message with what the client's span reads of it."""

    inputs = ()

    class model_spec:
        name = "simcse"


async def seconds_of_calls(calls: int, interceptors: list) -> float:
    """Seconds of the processor for so many calls, one after the other."""

    async def answer(message, context):
        return message

    server = grpc.aio.server(interceptors=interceptors)
    handler = grpc.unary_unary_rpc_method_handler(answer)
    service, method = METHOD.strip("/").split("/")
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {method: handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD)
        await call(b"x", metadata=METADATA)
        begun = time.process_time()
        for _ in range(calls):
            await call(b"x", metadata=METADATA)
        used = time.process_time() - begun
    await server.stop(None)
    return used


def seconds_alone(calls: int) -> float:
    """The same for the pieces alone: client, server, batch, headers."""
    begun = time.process_time()
    for _ in range(calls):
        with rpc_span(METHOD, "127.0.0.1:8500", Request):
            tracing.outgoing_headers()
        request = received(METADATA)
        with answering(request), tracing.server_span(METHOD, request, {}) as span:
            with tracing.batch_span([(current(), 0.001)], texts=1):
                pass
            if span.recorded:
                span.set({"simcse.texts": 1, "simcse.model.name": "simcse"})
    return time.process_time() - begun


def compare(calls: int, rounds: int, what: str) -> None:
    observed, plain, alone = [], [], []
    for _ in range(rounds):
        plain.append(asyncio.run(seconds_of_calls(calls, [AdmissionInterceptor()])))
        interceptors = [ObservingInterceptor(log=False), AdmissionInterceptor()]
        observed.append(asyncio.run(seconds_of_calls(calls, interceptors)))
        alone.append(seconds_alone(calls))
    to_us = 1e6 / calls
    ratios = [one / other for one, other in zip(observed, plain, strict=True)]
    print(
        f"{what:24} call {statistics.median(plain) * to_us:6.1f} us, observed "
        f"{statistics.median(observed) * to_us:6.1f} us "
        f"(ratio {statistics.median(ratios):.3f}), alone "
        f"{statistics.median(alone) * to_us:5.1f} us"
    )


def set_up_sdk() -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult as Result

    class Nowhere(SpanExporter):
        def export(self, spans):
            return Result.SUCCESS

        def shutdown(self):
            pass

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)


def seconds_of_a_line(calls: int, formatter: logging.Formatter) -> float:
    fields = {"rpc": METHOD, "status": "OK", "milliseconds": 1.5, "texts": 3}
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "answered", (), None)
    setattr(record, logs.FIELDS, fields)
    begun = time.process_time()
    for _ in range(calls):
        formatter.format(record)
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    compare(args.calls, args.rounds, "no OpenTelemetry")
    import opentelemetry.trace  # noqa: F401

    compare(args.calls, args.rounds, "its API, no provider")
    set_up_sdk()
    compare(args.calls, args.rounds, "its SDK, all recorded")
    for formatter in logs.TextLines(), logs.JsonLines():
        used = seconds_of_a_line(args.calls, formatter)
        print(f"a line of {type(formatter).__name__}: {used / args.calls * 1e6:.1f} us")


if __name__ == "__main__":
    main()
