"""What a router measures: what comes in, what it decides, what waits."""

from collections.abc import Callable, Mapping

from shared.bus import Bus
from shared.bus_metrics import watch_bus
from shared.ids import ModelName
from shared.messages import Assign, Message, Refused, WorkerCame, WorkerWent
from shared.telemetry import LONG_S, Label, Registry, Values


class RouterMetrics:
    def __init__(self, registry: Registry) -> None:
        self._model = Label()
        self._heard = registry.counter("kottos_router_messages_total", "Messages and ticks decided on.", ["kind"])
        self._assigned = registry.counter("kottos_router_assignments_total", "Requests given to a worker.", ["model"])
        self._age_s = registry.histogram(
            "kottos_router_assignment_age_seconds", "A request's age when a worker gets it.", [], LONG_S
        )
        self._refused = registry.counter("kottos_router_refusals_total", "Requests refused.", ["code"])
        self._came = registry.counter("kottos_router_workers_came_total", "Workers heard for the first time.")
        self._went = registry.counter("kottos_router_workers_went_total", "Workers lost, or started again.")

    def heard(self, kind: str) -> None:
        self._heard.labels(kind).inc()

    def sent(self, message: Message) -> None:
        match message:
            case Assign(submit=submit):
                self._assigned.labels(self._model(submit.model)).inc()
                self._age_s.observe(submit.age_s)
            case Refused(code=code):
                self._refused.labels(code.value).inc()
            case WorkerCame():
                self._came.inc()
            case WorkerWent():
                self._went.inc()


def watch(
    registry: Registry,
    bus: Bus,
    num_workers: Callable[[], int],
    num_held: Callable[[], Mapping[ModelName, int]],
    num_in_inbox: Callable[[], int],
) -> None:
    def held() -> Values:
        label = Label()  # of those that somebody waits for now
        return [((label(model),), num) for model, num in num_held().items()]

    registry.gauge("kottos_router_workers", "Workers alive.", [], lambda: [((), num_workers())])
    registry.gauge("kottos_router_held_requests", "Requests that wait for a worker.", ["model"], held)
    registry.gauge("kottos_router_inbox", "Messages not decided on yet.", [], lambda: [((), num_in_inbox())])
    watch_bus(registry, bus)
