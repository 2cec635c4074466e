from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.pace import MIN_MOVES
from gateway.admission.waiting import CLEARLY, LineName, Standing, WaitingCall, WaitingLines
from shared.errors import ErrorCode, RequestError
from shared.ids import ModelName

MODEL, OTHER = ModelName("m"), ModelName("other")


@dataclass
class Desk:
    lines: WaitingLines = field(default_factory=lambda: WaitingLines(20, 12, 0.0))
    now_s: float = 0.0

    def enter(
        self,
        tenant: str = "a",
        *,
        model: ModelName = MODEL,
        priority: int = 0,
        num: int = 1,
        timeout_s: float | None = None,
    ) -> WaitingCall:
        return self.lines.enter(LineName(model, tenant), priority, num, timeout_s, lambda: self.now_s)

    def one_a_second(self, calls: list[WaitingCall]) -> None:
        for call in calls:
            self.now_s += 1.0
            call.started(0)


def refused(desk: Desk, tenant: str = "a", **about: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        desk.enter(tenant, **about)  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.OVERLOADED
    return caught.value


def position(call: WaitingCall) -> int | None:
    standing = call.standing()
    return None if standing is None else standing.position


# --- places -------------------------------------------------------------------------------------


def test_positions_count_those_of_the_same_model_and_tenant() -> None:
    desk = Desk()
    first, second = desk.enter(), desk.enter()
    assert [position(call) for call in (first, second)] == [1, 2]
    assert position(desk.enter("b")) == position(desk.enter(model=OTHER)) == 1
    first.started(0)
    assert (position(first), position(second)) == (None, 1)


def test_who_is_more_important_passes() -> None:
    desk = Desk()
    usual, urgent = desk.enter(), desk.enter(priority=-1)
    assert (position(usual), position(urgent)) == (2, 1)


def test_each_sequence_of_a_call_has_a_place_until_its_first_token() -> None:
    desk = Desk()
    call, after = desk.enter(num=3), desk.enter()
    call.started(1)
    call.started(1)  # its second token
    assert (position(call), position(after)) == (1, 3)
    assert [call.standing(i) is not None for i in range(3)] == [True, False, True]
    call.leave()
    assert (position(call), position(after)) == (None, 1)
    call.leave()
    assert position(after) == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(-1, 1), st.booleans()), max_size=12))
def test_every_place_is_given_back(entries: list[tuple[str, int, bool]]) -> None:
    desk = Desk()
    calls = [(desk.enter(tenant, priority=priority), starts) for tenant, priority, starts in entries]
    for call, starts in calls:
        if starts:
            call.started(0)
        call.leave()
    for _ in range(12):
        desk.enter("a")  # the line takes as many as ever
    refused(desk)


# --- bounds -------------------------------------------------------------------------------------


def test_a_tenant_fills_its_own_line_and_no_other() -> None:
    desk = Desk()
    desk.enter(num=10)
    assert "10 of your requests wait for the model 'm'" in refused(desk, num=3).message
    desk.enter(num=2)
    refused(desk)
    desk.enter("b")
    desk.enter(model=OTHER)


def test_a_models_lines_are_bounded_together() -> None:
    desk = Desk()
    desk.enter("a", num=12)
    leaving = desk.enter("b", num=8)
    assert "20 requests wait" in refused(desk, "c").message
    desk.enter("c", model=OTHER)
    leaving.leave()
    desk.enter("c")


def test_who_is_refused_hears_when_to_come_again_from_the_rate() -> None:
    desk = Desk()
    calls = [desk.enter() for _ in range(12)]
    assert refused(desk).retry_after_s == 1.0  # nobody knows yet
    for _ in range(MIN_MOVES + 1):
        desk.one_a_second([calls.pop(0)])
        calls.append(desk.enter())
    assert refused(desk).retry_after_s == pytest.approx(12.0)


# --- estimates ----------------------------------------------------------------------------------


def moving(num_waiting: int) -> Desk:
    """A line that moves by one a second."""
    desk = Desk()
    calls = [desk.enter() for _ in range(num_waiting)]
    for _ in range(MIN_MOVES + 1):
        desk.one_a_second([calls.pop(0)])
        calls.append(desk.enter())
    return desk


def test_the_expected_wait_is_the_position_over_the_rate() -> None:
    desk = moving(9)
    standing = desk.enter().standing()
    assert standing is not None and (standing.position, standing.wait_s) == (10, pytest.approx(10.0))
    assert str(standing) == "queue position 10, about 10 s"
    assert str(Standing(1, None)) == "queue position 1" and str(Standing(1, 0.2)) == "queue position 1, about 1 s"


def test_who_would_clearly_be_too_late_is_refused_at_once() -> None:
    desk = moving(9)
    error = refused(desk, timeout_s=0.99 * 10 / CLEARLY)
    assert "about 10 s" in error.message and error.retry_after_s == pytest.approx(10 - 0.99 * 10 / CLEARLY)
    desk.enter(timeout_s=1.01 * 10 / CLEARLY)


def test_what_is_more_important_waits_for_fewer() -> None:
    moving(9).enter(timeout_s=0.7, priority=-1)


def test_without_a_measured_rate_nobody_is_refused() -> None:
    desk = Desk()
    for _ in range(12):
        desk.enter(timeout_s=1e-6)


def test_a_line_that_was_empty_knows_nothing_of_the_next_ones() -> None:
    desk = Desk()
    desk.one_a_second([desk.enter() for _ in range(12)])
    for _ in range(12):
        desk.enter(timeout_s=0.01)


def test_the_service_may_have_a_limit_of_its_own() -> None:
    desk = moving(9)
    desk.lines._max_ttft_s = 5.0
    assert "the limit is 5 s" in refused(desk).message
    assert "the limit is 2 s" in refused(desk, timeout_s=2.0).message
