"""Spans as OpenTelemetry has them, and what is said of a collector that is not there."""

import io
import logging

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode

from shared.spans import Span, SpanContext
from shared.trace_exporter import HEADER_BYTES, Outages, read_batches, readable, resource_of

CONTEXT = SpanContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
EARLIER = SpanContext(CONTEXT.trace_id, "00000000000000aa")
SPAN = Span(
    "sequence", CONTEXT, "00000000000000ff", "client", 1_700_000_000_000_000_001, 1_700_000_001_000_000_002,
    {"kottos.attempt": 1, "gen_ai.response.finish_reasons": ["stop"]}, (EARLIER,),
)  # fmt: skip


def test_a_span_keeps_everything() -> None:
    resource = resource_of("worker", "worker-0")
    span = readable(SPAN, resource)
    assert span.context is not None and span.parent is not None
    assert (span.context.trace_id, span.context.span_id) == (int(CONTEXT.trace_id, 16), int(CONTEXT.span_id, 16))
    assert (span.parent.trace_id, span.parent.span_id) == (span.context.trace_id, 0xFF)
    assert span.context.trace_flags.sampled  # else its processor drops it
    assert (span.name, span.kind, span.status.status_code) == ("sequence", SpanKind.CLIENT, StatusCode.UNSET)
    assert (span.start_time, span.end_time) == (SPAN.began_at_ns, SPAN.ended_at_ns)
    assert dict(span.attributes or {}) == SPAN.attributes
    assert [link.context.span_id for link in span.links] == [0xAA]
    names = {"service.name": "kottos-worker", "service.instance.id": "worker-0"}
    assert names.items() <= dict(resource.attributes).items()


def test_a_first_span_has_no_parent_and_an_error_is_one() -> None:
    span = readable(msgspec.structs.replace(SPAN, parent_span_id="", error="lost"), resource_of("gateway", "g"))
    assert span.parent is None
    assert (span.status.status_code, (span.attributes or {})["error.type"]) == (StatusCode.ERROR, "lost")


def test_what_is_cut_off_is_left_out() -> None:
    body = msgspec.msgpack.encode([SPAN, SPAN])
    whole = len(body).to_bytes(HEADER_BYTES, "big") + body
    assert list(read_batches(io.BytesIO(whole + whole))) == [[SPAN, SPAN]] * 2
    for num_bytes in (1, HEADER_BYTES, HEADER_BYTES + 1, len(whole) - 1):
        assert list(read_batches(io.BytesIO(whole + whole[:num_bytes]))) == [[SPAN, SPAN]]


class Collector(SpanExporter):
    def __init__(self) -> None:
        self.result: SpanExportResult | Exception = SpanExportResult.SUCCESS

    def export(self, spans: object) -> SpanExportResult:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def test_an_outage_is_said_once_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector()
    exporter = Outages(collector)
    spans: list[ReadableSpan] = [readable(SPAN, resource_of("gateway", "g"))] * 3
    with caplog.at_level(logging.WARNING):
        exporter.export(spans)
        assert caplog.messages == []
        for result in (SpanExportResult.FAILURE, ValueError("no URL"), SpanExportResult.FAILURE):
            collector.result = result
            assert exporter.export(spans) is SpanExportResult.FAILURE
        assert len(caplog.messages) == 1
        collector.result = SpanExportResult.SUCCESS
        exporter.export(spans)
        exporter.export(spans)
    assert len(caplog.messages) == 2
    assert "9 spans" in caplog.messages[1]
