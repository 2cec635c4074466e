from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.scheduling.costs import StepShape, guess
from gpu_worker.scheduling.measured_costs import MeasuredCosts, RunningMedian, SwitchCosts
from gpu_worker.scheduling.step_estimator import StepEstimator

BLOB_BYTES = 1000
OTHER_BYTES = 3000


def of_model(switches: SwitchCosts, blob_bytes: int = BLOB_BYTES) -> MeasuredCosts:
    return MeasuredCosts(StepEstimator(guess(blob_bytes)), switches, blob_bytes)


def test_before_any_copy_a_switch_takes_what_the_link_needs() -> None:
    assert of_model(SwitchCosts(1e4, unified=False)).switch_s == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["copied", "streamed", "prefetched"])
def test_a_copy_teaches_what_those_of_all_models_take(kind: str) -> None:
    switches = SwitchCosts(1e4, unified=False)
    for seconds in (5.0, 0.2):
        switches.observe(kind, BLOB_BYTES, seconds)  # type: ignore[arg-type]
    assert of_model(switches).switch_s == pytest.approx(0.2)
    assert of_model(switches, OTHER_BYTES).switch_s == pytest.approx(0.6)


def test_the_first_copy_of_all_decides_nothing_alone() -> None:
    switches = SwitchCosts(1e4, unified=False)
    switches.observe("copied", BLOB_BYTES, 5.0)
    assert of_model(switches).switch_s == pytest.approx(0.1)


def test_reading_from_disk_says_nothing_of_copies() -> None:
    switches = SwitchCosts(1e4, unified=False)
    for _ in range(2):
        switches.observe("from disk", BLOB_BYTES, 2.0)
    assert of_model(switches).switch_s == pytest.approx(0.1)


def test_who_was_there_says_nothing_of_copies() -> None:
    switches = SwitchCosts(1e4, unified=False)
    switches.observe("resident", 0, 1e-6)
    assert of_model(switches).switch_s == pytest.approx(0.1)


def test_where_memory_is_unified_switches_are_free() -> None:
    switches = SwitchCosts(None, unified=True)
    assert of_model(switches).switch_s == 0.0


@given(st.lists(st.floats(), max_size=50))
def test_a_switch_always_takes_time(seconds: list[float]) -> None:
    switches = SwitchCosts(None, unified=False)
    for value in seconds:
        switches.observe("copied", 0, value)
    assert 0 < of_model(switches).switch_s < inf


def test_up_to_half_may_be_wrong() -> None:
    running = RunningMedian(7.0)
    for _ in range(8):
        running.add(1.0)
    for _ in range(7):
        running.add(1e9)
    running.add(nan)
    running.add(-1.0)
    assert running.value == 1.0


def test_steps_are_the_estimators() -> None:
    costs = of_model(SwitchCosts(None, unified=True))
    for _ in range(5):
        costs.observe(StepShape(1, 10), 0.025)
    assert costs.step_s(StepShape(1, 10)) == pytest.approx(0.025)
