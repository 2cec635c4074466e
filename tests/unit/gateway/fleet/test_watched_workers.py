from collections.abc import Sequence

import pytest

from gateway.fleet.watched_workers import WatchedWorkers
from shared.ids import Incarnation, ModelName, RequestId, WorkerId
from shared.messages import StepTold, SwitchTold, Timeline, TurnTold, WorkerState
from tests.unit.gateway.builders import LIFE, WORKER, beat

A, B = ModelName("a"), ModelName("b")
RESIDENT = SwitchTold("resident", 0.0, 0)


def turn(age_s: float, *durations_s: float, model: ModelName = A, switch: SwitchTold | None = None) -> TurnTold:
    """Steps without a pause, of 2 tokens each."""
    offsets_s = [sum(durations_s[:number]) for number in range(len(durations_s))]
    steps = (StepTold(*each, 0, 2, 2) for each in zip(offsets_s, durations_s, strict=True))
    return TurnTold(model, age_s, switch, tuple(steps))


def timeline(*turns: TurnTold, worker: WorkerId = WORKER) -> Timeline:
    return Timeline(worker, LIFE, turns)


def state(life: Incarnation = LIFE, prefilling: Sequence[str] = ()) -> WorkerState:
    return WorkerState(WORKER, life, "deadline", 100, {A: 40}, 200, {A: 40, B: 60}, tuple(map(RequestId, prefilling)))


@pytest.fixture
def watched() -> WatchedWorkers:
    return WatchedWorkers(began_at_s=100.0)


def test_turns_began_their_age_ago(watched: WatchedWorkers) -> None:
    assert watched.on_timeline(timeline(turn(3.0, 0.5), turn(2.0, 0.5, model=B)), 110.0) == [107.0, 108.0]
    assert watched.on_timeline(timeline(), 110.0) == []


def test_no_turn_begins_before_the_last_one_was_over_however_late_that_was_heard(watched: WatchedWorkers) -> None:
    assert watched.on_timeline(timeline(turn(1.0, 0.5, 0.5)), 110.0) == [109.0]  # until 110.0
    on_time = timeline(turn(0.5, 0.25), turn(0.25, 0.25))
    assert watched.on_timeline(on_time, 110.25) == [110.0, 110.25]  # it began at 109.75 by the clock
    other = timeline(turn(0.5, 0.25), worker=WorkerId("worker-1"))
    assert watched.on_timeline(other, 110.25) == [109.75]
    assert watched.on_timeline(timeline(turn(0.5, 0.5)), 120.0) == [119.5]


def test_rates_are_of_workers_and_of_models(watched: WatchedWorkers) -> None:
    watched.on_timeline(timeline(turn(0.5, 0.1, 0.1), turn(0.2, 0.1, model=B, switch=RESIDENT)), 109.0)
    watched.on_timeline(timeline(turn(0.5, 0.1), worker=WorkerId("worker-1")), 109.5)
    assert watched.tokens_per_s(WORKER, 110.0) == 3.0
    assert watched.switches_per_s(WORKER, 110.0) == 0.5
    assert (watched.model_tokens_per_s(A, 110.0), watched.model_tokens_per_s(B, 110.0)) == (3.0, 1.0)
    assert watched.tokens_per_s(WorkerId("nobody"), 110.0) == watched.model_tokens_per_s(ModelName("c"), 110.0) == 0.0


def test_what_an_earlier_life_said_is_not_the_present_ones(watched: WatchedWorkers) -> None:
    assert watched.state_of(beat()) is None
    watched.on_state(state())
    assert watched.state_of(beat()) == state()
    assert watched.state_of(beat(life=Incarnation("life-2"))) is None


def test_who_is_gone_is_forgotten(watched: WatchedWorkers) -> None:
    watched.on_state(state(prefilling=["r"]))
    watched.on_timeline(timeline(turn(0.5, 0.1)), 109.0)
    watched.keep([WORKER], [A])
    assert watched.prefilling() == {"r"} and watched.tokens_per_s(WORKER, 110.0) > 0
    watched.keep([], [])
    assert watched.prefilling() == set() and watched.tokens_per_s(WORKER, 110.0) == 0.0
    assert watched.model_tokens_per_s(A, 110.0) == 0.0
