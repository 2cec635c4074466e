import pytest

from gpu_worker.timeline import MAX_STEPS, WATCH_S, TimelineRing
from shared.ids import ModelName
from shared.messages import StepTold, SwitchTold, TurnTold

A, B = ModelName("a"), ModelName("b")
COPIED = SwitchTold("copied", 0.25, 100)


@pytest.fixture
def ring() -> TimelineRing:
    ring = TimelineRing()
    ring.watch(0.0)
    return ring


def step(ring: TimelineRing, model: ModelName, began_at_s: float) -> None:
    """Half a second of decoding."""
    ring.stepped(model, began_at_s, 0.5, 0, 3, 3)


def told(offset_s: float) -> StepTold:
    return StepTold(offset_s, 0.5, 0, 3, 3)


def test_steps_of_one_model_in_a_row_are_a_turn(ring: TimelineRing) -> None:
    ring.switched(A, COPIED)
    ring.stepped(A, 1.0, 0.75, 8, 0, 1)
    step(ring, A, 2.0)
    ring.switched(B, SwitchTold("resident", 0.0, 0))
    step(ring, B, 3.0)
    assert ring.take(5.0) == (
        TurnTold(A, 4.0, COPIED, (StepTold(0.0, 0.75, 8, 0, 1), told(1.0))),
        TurnTold(B, 2.0, SwitchTold("resident", 0.0, 0), (told(0.0),)),
    )


def test_a_turn_that_goes_on_comes_again_with_its_new_steps(ring: TimelineRing) -> None:
    ring.switched(A, COPIED)
    step(ring, A, 1.0)
    ring.take(2.0)
    assert ring.take(2.0) == ()
    step(ring, A, 3.0)
    step(ring, A, 4.0)
    assert ring.take(6.0) == (TurnTold(A, 3.0, None, (told(0.0), told(1.0))),)


def test_a_model_that_came_from_disk_meanwhile_begins_another_turn(ring: TimelineRing) -> None:
    step(ring, A, 1.0)
    ring.switched(A, COPIED)
    step(ring, A, 2.0)
    assert [(turn.switch, len(turn.steps)) for turn in ring.take(3.0)] == [(None, 1), (COPIED, 1)]


def test_a_switch_whose_step_failed_is_no_other_models(ring: TimelineRing) -> None:
    ring.switched(A, COPIED)
    step(ring, B, 1.0)
    step(ring, A, 2.0)
    assert [turn.switch for turn in ring.take(3.0)] == [None, None]


def test_of_many_steps_the_oldest_go(ring: TimelineRing) -> None:
    for number in range(MAX_STEPS + 10):
        step(ring, A, float(number))
    assert len(ring) == MAX_STEPS
    [turn] = ring.take(float(MAX_STEPS + 10))
    assert (len(turn.steps), turn.age_s) == (MAX_STEPS, MAX_STEPS)


def test_a_watch_that_is_not_said_again_lapses_and_what_was_kept_goes(ring: TimelineRing) -> None:
    ring.watch(1.0)
    ring.lapse(1.0 + WATCH_S - 0.01)
    step(ring, A, 2.0)
    assert ring.is_watched and len(ring) == 1
    ring.lapse(1.0 + WATCH_S)
    assert not ring.is_watched and len(ring) == 0
    ring.watch(9.0)
    assert ring.is_watched and ring.take(9.0) == ()
