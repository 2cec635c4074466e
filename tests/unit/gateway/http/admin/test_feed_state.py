from typing import Literal

import pytest

from gateway.admission.in_flight import InFlight
from gateway.fleet.watched_workers import WatchedWorkers
from gateway.http.admin.feed_objects import FeedMemory
from gateway.http.admin.feed_state import request_of, worker_of
from gateway.sequences.sequence import Phase
from shared.messages import WorkerState
from tests.unit.gateway.builders import LIFE, MODEL, WORKER, beat


def in_flight(
    phase: Literal["preparing"] | Phase, position: int | None = None, wait_s: float | None = None
) -> InFlight:
    return InFlight("r", MODEL, "tenant", phase, 1.5, position, wait_s, 7, 3, WORKER)


@pytest.mark.parametrize(
    ("given", "phase", "status"),
    [
        (in_flight("preparing", 3), "waiting", "is prepared, queue position 3"),
        (in_flight("submitting"), "waiting", "waits for a router"),
        (in_flight("held", 1, 4.4), "waiting", "held by the router, queue position 1, about 4 s"),
        (in_flight("queued", 1), "waiting", "queued on its worker, queue position 1"),
        (in_flight("running"), "decode", ""),
    ],
)
def test_a_request_says_what_it_waits_for(given: InFlight, phase: str, status: str) -> None:
    shown = request_of(given, set())
    assert (shown.phase, shown.status) == (phase, status)


def test_its_worker_says_when_its_prompt_is_computed() -> None:
    shown = request_of(in_flight("queued", 1), {"r"})
    assert (shown.phase, shown.status) == ("prefill", "its prompt is computed, queue position 1")
    assert request_of(in_flight("running"), {"r"}).phase == "decode"  # that was said earlier


def test_of_a_worker_that_has_not_said_it_nothing_is_known() -> None:
    workers = WatchedWorkers(0.0)
    unknown = worker_of(beat(), workers, 1.0)
    assert (unknown.policy, unknown.device, unknown.host) == ("", FeedMemory(None, {}), FeedMemory(None, {}))
    workers.on_state(WorkerState(WORKER, LIFE, "deadline", 100, {MODEL: 40}, 200, {MODEL: 40}))
    known = worker_of(beat(), workers, 1.0)
    assert (known.policy, known.device, known.host) == (
        "deadline", FeedMemory(100, {MODEL: 40}), FeedMemory(200, {MODEL: 40})
    )  # fmt: skip
