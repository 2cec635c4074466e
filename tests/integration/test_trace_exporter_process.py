"""A collector that is not there, and an exporter that is not: they cost one line each."""

import os
import signal

import pytest

from shared.config import TelemetryConfig
from shared.spans import Span, SpanContext
from shared.tracing import open_tracer
from tests.processes import descendants, watch

SPAN = Span("run", SpanContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"), "", "internal", 1, 2)
NOBODY = TelemetryConfig(otlp_endpoint="http://127.0.0.1:1")


async def test_a_collector_that_is_not_there_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    async with open_tracer(
        NOBODY, "worker", "worker-0", dict(os.environ) | {"OTEL_BSP_SCHEDULE_DELAY": "10"}
    ) as tracer:
        assert tracer is not None
        for _ in range(3):
            tracer.put([SPAN] * 500)
    said = capfd.readouterr().err
    assert said.count("\n") == 1, said
    assert "worker-traces" in said and "the collector does not take traces" in said


async def test_an_exporter_that_was_killed_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    before = descendants(os.getpid())
    async with open_tracer(NOBODY, "worker", "worker-0") as tracer:
        assert tracer is not None
        [pid] = set(descendants(os.getpid())) - set(before)
        with watch(pid) as [exporter]:
            os.kill(pid, signal.SIGKILL)
            await exporter.wait_end()
        tracer.put([SPAN])
    async with open_tracer(NOBODY, "worker", "worker-0") as tracer:
        assert tracer is not None
    assert [line for line in caplog.messages if "spans of traces are dropped" in line] == [caplog.messages[0]]


async def test_nothing_runs_unless_a_collector_is_named() -> None:
    before = descendants(os.getpid())
    off = {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    for environ in ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, off):
        async with open_tracer(TelemetryConfig(), "worker", "worker-0", environ) as tracer:
            assert tracer is None
            assert descendants(os.getpid()) == before
