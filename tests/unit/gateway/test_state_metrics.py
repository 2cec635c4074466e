"""What a scrape reads of a gateway's state, when it asks."""

from types import SimpleNamespace
from typing import Any, cast

from gateway.admission.pace import MIN_MOVES
from gateway.admission.waiting import LineName, WaitingLines
from gateway.attainment import Attainment
from gateway.state_metrics import Watched, watch
from shared.memory_bus import MemoryBroker
from shared.telemetry import Registry
from tests.scrapes import samples
from tests.unit.gateway.builders import MODEL


def test_state_is_read_when_asked() -> None:
    registry, attainment, lines, now_s = Registry(), Attainment(), WaitingLines(100, 100, 0.0), [0.0]
    bus = MemoryBroker().connect()
    readers = [SimpleNamespace(num_unread=7), SimpleNamespace(num_unread=4)]
    state = Watched(
        bus,
        cast(Any, SimpleNamespace(num_open=3, readers=lambda: readers)),
        lines,
        cast(Any, SimpleNamespace(num_submitting=2)),
        cast(Any, SimpleNamespace(num_waiting=1)),
        attainment,
        cast(Any, SimpleNamespace(num_waiting=5)),
        cast(Any, SimpleNamespace(num_open=9)),
        lambda: now_s[0],
    )
    watch(registry, state)
    attainment.of(MODEL).num_due = 5
    attainment.of(MODEL).num_on_time = 4
    bus.stats.num_reconnects = 6
    bus.stats.num_failed_replies = 8
    call = lines.enter(LineName(MODEL, "a"), 0, MIN_MOVES + 3, None, lambda: now_s[0])
    assert f"kottos_predicted_ttft_seconds{{{MODEL}}}" not in samples(registry.render())  # nobody knows yet
    for index in range(MIN_MOVES):
        now_s[0] += 2.0
        call.started(index)
    found = samples(registry.render())
    assert found[f"kottos_due_tokens_total{{{MODEL}}}"] == 5
    assert found[f"kottos_on_time_tokens_total{{{MODEL}}}"] == 4
    assert found[f"kottos_predicted_ttft_seconds{{{MODEL}}}"] == 4 * 2.0  # three wait before it
    assert (found["kottos_requests_in_flight{}"], found["kottos_requests_submitting{}"]) == (3, 2)
    assert (found["kottos_requests_waiting{}"], found["kottos_text_jobs_waiting{}"]) == (1, 5)
    assert (found["kottos_http_connections{}"], found["kottos_unread_tokens{}"]) == (9, 11)
    assert (found["kottos_bus_connected{}"], found["kottos_bus_reconnects_total{}"]) == (0, 6)
    assert found["kottos_bus_faults_total{reply}"] == 8
