from router.metrics import RouterMetrics, watch
from shared.errors import ErrorCode
from shared.ids import Incarnation, ModelName, OwnerId, RequestId, WorkerId
from shared.memory_bus import MemoryBroker
from shared.messages import Assign, Refused, Sampling, Submit, WorkerCame, WorkerWent
from shared.telemetry import Registry
from tests.scrapes import samples

LIFE = Incarnation("life")
MODEL = ModelName("m")


def test_decisions_by_what_was_sent() -> None:
    registry = Registry()
    metrics = RouterMetrics(registry)
    sampling = Sampling(max_tokens=1, seed=1)
    submit = Submit(RequestId("r"), 0, OwnerId("o"), ModelName("m"), (1,), sampling, age_s=0.75)
    metrics.heard("Submit")
    for message in (
        Assign(submit, LIFE, 1),
        Refused(RequestId("r"), 0, ErrorCode.OVERLOADED, "full"),
        WorkerCame(WorkerId("w"), LIFE),
        WorkerWent(WorkerId("w"), LIFE, "silence"),
    ):
        metrics.sent(message)
    found = samples(registry.render())
    assert found["kottos_router_messages_total{Submit}"] == 1
    assert found["kottos_router_assignments_total{m}"] == 1
    assert found["kottos_router_assignment_age_seconds_sum{}"] == 0.75
    assert found["kottos_router_refusals_total{overloaded}"] == 1
    assert (found["kottos_router_workers_came_total{}"], found["kottos_router_workers_went_total{}"]) == (1, 1)


def test_what_waits_is_read_when_asked() -> None:
    registry, held = Registry(), {MODEL: 1}
    watch(registry, MemoryBroker().connect(), lambda: 2, lambda: held, lambda: 0)
    held[MODEL] = 2
    found = samples(registry.render())
    assert (found["kottos_router_workers{}"], found[f"kottos_router_held_requests{{{MODEL}}}"]) == (2, 2)
    assert found["kottos_bus_connected{}"] == 0
