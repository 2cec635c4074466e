"""`python -m shared.trace_exporter SERVICE INSTANCE LOG_FORMAT`: sends spans from stdin to a collector, over OTLP.

A process of its own beside each traced service, and the only place with OpenTelemetry: making protobuf messages of
spans takes the GIL for milliseconds at a time, which steps and streams would have to wait for. Its queue is bounded
(OTEL_BSP_MAX_QUEUE_SIZE), as its exporter's variables say (OTEL_EXPORTER_OTLP_*) where to, with which headers and how.
"""

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Final

import msgspec
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from shared import log, spans
from shared.config import LogFormat

HEADER_BYTES: Final = 4  # of a message: how many bytes follow, big-endian
_LAST_S: Final = 1.0  # for what is left at the end

_log = logging.getLogger("shared.trace_exporter")  # __name__ is __main__
_decoder: Final = msgspec.msgpack.Decoder(list[spans.Span])
_KINDS: Final = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope("kottos")


def main(service: str, instance: str, log_format: LogFormat, stream: BinaryIO) -> None:
    """Until the stream ends, and what came is sent."""
    log.setup(f"{service}-traces", "warning", log_format)
    # The exporter complains of each batch, Outages of each outage.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    for handler in logging.getLogger().handlers:
        handler.addFilter(once())
    resource = resource_of(service, instance)
    exporter = Outages(OTLPSpanExporter())
    processor = BatchSpanProcessor(exporter)
    for batch in read_batches(stream):
        for span in batch:
            processor.on_end(readable(span, resource))
    give_up = threading.Timer(_LAST_S, exporter.shutdown)  # else it tries again for ten seconds
    give_up.start()
    processor.shutdown()
    give_up.cancel()


def once() -> Callable[[logging.LogRecord], bool]:
    """Lets OpenTelemetry say each thing once: of a full queue it would speak all the time."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        if record.msg in said:
            return False
        if record.name.startswith("opentelemetry"):
            said.add(record.msg)
        return True

    return is_new


def resource_of(service: str, instance: str) -> Resource:
    """With what OTEL_RESOURCE_ATTRIBUTES says besides."""
    names = {"service.name": f"kottos-{service}", "service.namespace": "kottos", "service.instance.id": instance}
    return Resource.create(names)


def read_batches(stream: BinaryIO) -> Iterator[list[spans.Span]]:
    """One that is cut off is left out."""
    while len(header := stream.read(HEADER_BYTES)) == HEADER_BYTES:
        num_bytes = int.from_bytes(header, "big")
        body = stream.read(num_bytes)
        if len(body) == num_bytes:
            yield _decoder.decode(body)


def readable(span: spans.Span, resource: Resource) -> ReadableSpan:
    parent = _context(span.context.trace_id, span.parent_span_id) if span.parent_span_id else None
    error = {"error.type": span.error} if span.error else {}
    return ReadableSpan(
        span.name,
        _context(*span.context),
        parent,
        resource,
        {**span.attributes, **error},
        links=[Link(_context(*linked)) for linked in span.links],
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
        start_time=span.began_at_ns,
        end_time=span.ended_at_ns,
        instrumentation_scope=_SCOPE,
    )


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=_SAMPLED)


class Outages(SpanExporter):
    """Says once that a collector can't be reached, and once that it can be again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._num_lost = 0  # spans, since it was reached last

    def export(self, batch: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(batch)
        except Exception as error:  # an endpoint that is no URL, say
            result = SpanExportResult.FAILURE
            _log.debug("%s: %s", type(error).__name__, error)
        if result is not SpanExportResult.SUCCESS:
            if not self._num_lost:
                _log.warning("the collector does not take traces: they are dropped until it does")
            self._num_lost += len(batch)
        elif self._num_lost:
            _log.warning("the collector takes traces again; %d spans were dropped", self._num_lost)
            self._num_lost = 0
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


if __name__ == "__main__":
    service, instance, log_format = sys.argv[1:]
    main(service, instance, "json" if log_format == "json" else "console", sys.stdin.buffer)
