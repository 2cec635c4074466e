import pytest

from cli.top.lane import KEPT_S, Cell, Lane
from tests.unit.cli.top.states import turn


def test_each_cell_has_the_model_that_ran_most_and_how_long_anybody_did() -> None:
    lane = Lane()
    lane.add([turn("a", 90.0, (0.0, 1.0)), turn("b", 91.25, (0.0, 0.25), (0.3, 0.25)), turn("a", 91.9, (0.0, 0.1))])
    a, b, nobody = lane.cells(93.0, 3.0, 3)
    assert a.model == "a" and a.share == pytest.approx(1.0) and not a.waited
    assert b.model == "b" and b.share == pytest.approx(0.6) and not b.waited  # 20 ms and more between steps are a gap
    assert nobody == Cell(None, 0.0, False)


def test_a_turn_that_goes_on_is_one() -> None:
    lane = Lane()
    for number in range(100):
        lane.add([turn("a", 10.0 + number * 0.1, (0.0, 0.09))])
    [cell] = lane.cells(20.0, 10.0, 1)
    assert cell.share == pytest.approx(1.0, abs=0.02)
    assert len(lane._bars) == 1


def test_a_wait_for_weights_shows_before_its_turn() -> None:
    lane = Lane()
    lane.add([turn("a", 10.0, (0.0, 1.0)), turn("b", 12.0, (0.0, 1.0), waited_s=1.0)])
    assert [(cell.model, cell.waited) for cell in lane.cells(13.0, 3.0, 3)] == [
        ("a", False),
        (None, True),
        ("b", False),
    ]


def test_what_is_older_than_what_is_kept_is_forgotten() -> None:
    lane = Lane()
    for number in range(1000):
        lane.add([turn("ab"[number % 2], float(number), (0.0, 0.5), waited_s=0.1)])
    assert len(lane._bars) <= KEPT_S + 2 and len(lane._waits) <= KEPT_S + 2
    assert all(cell.model for cell in lane.cells(1000.0, KEPT_S, 60))


def test_nothing_was_heard_yet() -> None:
    assert Lane().cells(0.0, 30.0, 4) == [Cell(None, 0.0, False)] * 4
