import pytest

from gateway.admission.pace import MIN_MOVES, Pace


def moved(*at_s: float) -> Pace:
    pace = Pace()
    for instant_s in at_s:
        pace.moved(instant_s)
    return pace


def test_it_says_nothing_before_enough_have_left() -> None:
    assert moved(*range(MIN_MOVES - 1)).wait_s(1, 10.0) is None


def test_a_steady_line_moves_at_its_rate() -> None:
    steady = moved(*(i * 0.5 for i in range(50)))
    assert steady.wait_s(10, 24.5) == pytest.approx(5.0)


def test_what_was_long_ago_counts_no_more() -> None:
    faster = moved(*range(100), *(99 + i * 0.1 for i in range(1, 50)))
    assert faster.wait_s(10, 103.9) == pytest.approx(1.0)


def test_a_line_that_stands_still_gets_slower() -> None:
    pace = moved(*range(MIN_MOVES))
    waits_s = [pace.wait_s(1, now_s) or 0.0 for now_s in (7.0, 14.0, 70.0)]
    assert waits_s == pytest.approx([1.0, 2.0, 10.0])
