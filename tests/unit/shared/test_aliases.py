"""Other names of what is measured."""

import pytest

from shared.aliases import GEN_AI, VLLM, aliases
from shared.telemetry import Registry
from tests.scrapes import samples


def test_a_counter_and_its_reasons_by_other_names() -> None:
    registry = Registry(VLLM)
    ended = registry.counter("kottos_requests_total", "Ended.", ["model", "finish_reason"])
    model = "cancelled"  # models have any name
    for reason, num in (("stop", 3), ("tool_calls", 2), ("length", 1), ("cancelled", 4)):
        ended.labels(model, reason).inc(num)
    found = samples(registry.render())
    name = "vllm:request_success_total"
    assert {row: value for row, value in found.items() if row.startswith(name)} == {
        f"{name}{{stop,{model}}}": 5,
        f"{name}{{length,{model}}}": 1,
        f"{name}{{abort,{model}}}": 4,
    }
    assert (
        'vllm:request_success_total{finished_reason="abort",model_name="cancelled"} 4.0' in registry.render().decode()
    )
    assert found[f"kottos_requests_total{{tool_calls,{model}}}"] == 2  # ours is as it was


def test_a_gauge_of_some_rows_only() -> None:
    registry = Registry(VLLM)
    rows = [(("m", "running"), 3.0), (("m", "waiting"), 5.0)]
    registry.gauge("kottos_sequences", "Sequences.", ["model", "state"], lambda: rows)
    found = samples(registry.render())
    assert (found["vllm:num_requests_running{m}"], found["vllm:num_requests_waiting{m}"]) == (3, 5)


def test_a_histogram_keeps_its_buckets() -> None:
    registry = Registry(GEN_AI)
    registry.histogram("kottos_request_seconds", "Requests.", ["model"], (1.0, 2.0)).labels("m").observe(1.5)
    text = registry.render().decode()
    labels = 'gen_ai_operation_name="generate_content",gen_ai_provider_name="kottos",gen_ai_request_model="m"'
    name = "gen_ai_server_request_duration_seconds"
    assert f"# TYPE {name} histogram" in text
    found = samples(registry.render())
    values = "generate_content,kottos,m"
    assert f"{name}_sum{{{labels}}} 1.5" in text
    assert [found[row] for row in found if row.startswith(f"{name}_bucket")] == [0, 1, 1]
    assert found[f"{name}_count{{{values}}}"] == 1


@pytest.mark.parametrize("vllm", [True, False])
def test_vllms_names_are_a_choice(vllm: bool) -> None:
    registry = Registry(aliases(vllm=vllm))
    registry.histogram("kottos_request_seconds", "Requests.", ["model"]).labels("m").observe(1.5)
    text = registry.render().decode()
    assert ("vllm:e2e_request_latency_seconds_count" in text) == vllm
    assert "gen_ai_server_request_duration_seconds_count" in text


def test_no_service_has_a_name_twice() -> None:
    pairs = [(alias.name, alias.source) for alias in (*VLLM, *GEN_AI)]
    assert len(pairs) == len(set(pairs))
    twice = {name for name, _ in pairs if sum(other == name for other, _ in pairs) > 1}
    assert twice == {"vllm:num_requests_waiting"}  # of a worker, and of a router
