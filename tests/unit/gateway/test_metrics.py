from typing import Any, Literal

from gateway.metrics import GatewayMetrics
from gateway.tenants.tenant import LOCAL
from shared.errors import ErrorCode
from shared.ids import RequestId
from shared.messages import RequestFinished
from shared.telemetry import OTHER, Registry
from tests.scrapes import samples
from tests.unit.gateway.builders import MODEL, OWNER


def finished(reason: Literal["stop", "cancelled"], **fields: Any) -> RequestFinished:
    return RequestFinished(RequestId("r"), MODEL, reason, 10, 4, 0.5, 2.0, OWNER, **fields)


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


def test_goodput_counts_what_ended_well_with_every_token_in_time() -> None:
    registry = Registry()
    metrics = GatewayMetrics(registry)
    metrics.finished(finished("stop", num_due_tokens=4, num_on_time_tokens=4))
    metrics.finished(finished("stop", num_due_tokens=4, num_on_time_tokens=3))
    metrics.finished(finished("cancelled", num_due_tokens=4, num_on_time_tokens=4))
    found = samples(registry.render())
    assert found[f"kottos_good_requests_total{{{MODEL}}}"] == 1
    mean_s = (2.0 - 0.5) / 3  # of the gaps between four tokens
    name = "kottos_request_token_seconds"
    assert (found[f"{name}_count{{{MODEL}}}"], found[f"{name}_sum{{{MODEL}}}"]) == (2, 2 * mean_s)


def test_tenants_come_and_go_with_their_keys() -> None:
    registry = Registry()
    metrics = GatewayMetrics(registry)
    for tenant in ("key-a", "key-b", LOCAL.id):
        metrics.finished(finished("stop", tenant=tenant))
        metrics.refused(tenant, ErrorCode.OVERLOADED)
    metrics.keep_tenants({"key-b"})
    rows = {name: value for name, value in samples(registry.render()).items() if name.startswith("kottos_tenant_")}
    assert rows == {
        f"kottos_tenant_{name}_total{{{labels}}}": value
        for tenant in ("key-b", LOCAL.id)
        for name, labels, value in (
            ("requests", tenant, 1),
            ("prompt_tokens", tenant, 10),
            ("output_tokens", tenant, 4),
            ("refusals", f"overloaded,{tenant}", 1),
        )
    }


def test_tenants_are_bounded() -> None:
    registry = Registry()
    metrics = GatewayMetrics(registry)
    for number in range(300):
        metrics.finished(finished("stop", tenant=f"key-{number}"))
    found = samples(registry.render())
    assert sum(name.startswith("kottos_tenant_requests_total") for name in found) == 257
    assert found[f"kottos_tenant_requests_total{{{OTHER}}}"] == 44


def test_a_model_that_goes_takes_its_rows_along() -> None:
    registry = Registry()
    metrics = GatewayMetrics(registry)
    empty = registry.render()
    metrics.finished(finished("stop"))
    metrics.token_times(MODEL, arrived_at_s=1.0).written(2, 3.0)
    assert MODEL in registry.render().decode()
    metrics.forget(MODEL)
    metrics.keep_tenants(set())
    assert registry.render() == empty
    metrics.forget(MODEL)  # of which nothing is known
