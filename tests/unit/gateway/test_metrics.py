from typing import Literal

from gateway.attainment import Attainment
from gateway.metrics import GatewayMetrics, watch
from shared.ids import RequestId
from shared.memory_bus import MemoryBroker
from shared.messages import RequestFinished
from shared.telemetry import Registry
from tests.scrapes import samples
from tests.unit.gateway.builders import MODEL, OWNER


def finished(reason: Literal["stop", "cancelled"], *, num_cached_tokens: int = 0) -> RequestFinished:
    return RequestFinished(RequestId("r"), MODEL, reason, 10, 4, 0.5, 2.0, OWNER, num_cached_tokens=num_cached_tokens)


def test_requests_by_model_and_end() -> None:
    registry = Registry()
    metrics = GatewayMetrics(registry)
    metrics.finished(finished("stop", num_cached_tokens=8))
    metrics.finished(finished("cancelled"))
    found = samples(registry.render())
    assert found[f"kottos_requests_total{{stop,{MODEL}}}"] == 1
    assert found[f"kottos_requests_total{{cancelled,{MODEL}}}"] == 1
    assert found[f"kottos_request_seconds_sum{{{MODEL}}}"] == 4.0
    assert found[f"kottos_prompt_tokens_total{{{MODEL}}}"] == 20
    assert found[f"kottos_cached_prompt_tokens_total{{{MODEL}}}"] == 8
    assert found[f"kottos_output_tokens_total{{{MODEL}}}"] == 8


def test_the_first_token_and_the_gaps_after_it() -> None:
    registry = Registry()
    times = GatewayMetrics(registry).token_times(MODEL, arrived_at_s=1.0)
    for num_tokens, now_s in ((0, 2.0), (1, 3.0), (1, 3.5), (2, 5.0), (5, 6.0)):
        times.written(num_tokens, now_s)
    found = samples(registry.render())
    first, gap = "kottos_time_to_first_token_seconds", "kottos_inter_token_seconds"
    assert (found[f"{first}_count{{{MODEL}}}"], found[f"{first}_sum{{{MODEL}}}"]) == (1, 2.0)
    assert (found[f"{gap}_count{{{MODEL}}}"], found[f"{gap}_sum{{{MODEL}}}"]) == (4, 3.0)


def test_attainment_is_read_when_asked() -> None:
    registry, attainment = Registry(), Attainment()
    watch(registry, MemoryBroker().connect(), lambda: 3, lambda: 2, lambda: 1, attainment)
    attainment.of(MODEL).num_due = 5
    attainment.of(MODEL).num_on_time = 4
    found = samples(registry.render())
    assert found[f"kottos_due_tokens_total{{{MODEL}}}"] == 5
    assert found[f"kottos_on_time_tokens_total{{{MODEL}}}"] == 4
    assert found["kottos_requests_in_flight{}"] == 3


def test_a_model_that_goes_takes_its_rows_along() -> None:
    registry, attainment = Registry(), Attainment()
    metrics = GatewayMetrics(registry)
    watch(registry, MemoryBroker().connect(), lambda: 0, lambda: 0, lambda: 0, attainment)
    empty = registry.render()
    metrics.finished(finished("stop"))
    metrics.token_times(MODEL, arrived_at_s=1.0).written(2, 3.0)
    attainment.of(MODEL).num_due = 5
    assert MODEL in registry.render().decode()
    metrics.forget(MODEL)
    attainment.forget(MODEL)
    assert registry.render() == empty
    metrics.forget(MODEL)  # of which nothing is known
