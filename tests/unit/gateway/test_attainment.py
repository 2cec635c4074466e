from hypothesis import given
from hypothesis import strategies as st

from gateway.attainment import REFUSALS, Attainment, DeadlineMeter, TokenCounts
from gateway.http.errors import TABLE
from shared.errors import ErrorCode, RequestError
from shared.slo import Slo
from tests.unit.gateway.builders import MODEL

SLO = Slo(ttft_s=2.0, tbt_s=0.5)  # due at 12, 12.5, 13, ... of a request that arrived at 10


def meter(of_model: TokenCounts | None = None) -> DeadlineMeter:
    return DeadlineMeter(SLO, 10.0, of_model or TokenCounts())


def judged(one: DeadlineMeter) -> tuple[int, int]:
    return one.num_on_time, one.num_due


def test_a_token_is_on_time_up_to_the_instant_at_which_it_is_due() -> None:
    one = meter()
    one.written(1, 12.0)
    assert judged(one) == (1, 1)
    one.written(2, 12.501)
    assert judged(one) == (1, 2)
    one.written(3, 13.0)
    assert judged(one) == (2, 3)


def test_tokens_that_come_together_are_late_up_to_the_first_that_is_not() -> None:
    one = meter()
    one.written(5, 13.2)  # due: 12, 12.5, 13, 13.5, 14
    assert judged(one) == (2, 5)


def test_a_token_counts_once() -> None:
    one = meter()
    one.written(3, 11.0)
    one.written(3, 99.0)
    one.written(2, 99.0)
    assert judged(one) == (3, 3)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.floats(0.0, 3.0)), max_size=12), st.integers(0, 40), st.floats(0.0, 9.0)
)
def test_writes_and_an_end_judge_as_one_look_at_each_token_does(
    writes: list[tuple[int, float]], num_more: int, wait_s: float
) -> None:
    one, now_s, written_at_s = meter(), 10.0, list[float]()
    for num_tokens, pause_s in writes:
        now_s += pause_s
        written_at_s += [now_s] * num_tokens
        one.written(len(written_at_s), now_s)
    now_s += wait_s
    one.ended(len(written_at_s) + num_more, now_s, error=None)
    due_at_s = [12.0 + 0.5 * k for k in range(len(written_at_s) + num_more)]
    on_time = [at_s <= due for at_s, due in zip(written_at_s, due_at_s, strict=False)]
    never_came = [due for due in due_at_s[len(written_at_s) :] if due < now_s]
    assert judged(one) == (sum(on_time), len(on_time) + len(never_came))


def test_an_end_makes_late_what_is_overdue_and_never_came() -> None:
    one = meter()
    one.written(1, 11.0)
    one.ended(max_tokens=100, now_s=13.2, error=RequestError(ErrorCode.INTERNAL, "lost"))
    assert judged(one) == (1, 3)  # those due at 12.5 and 13


def test_no_more_tokens_are_late_than_might_have_come() -> None:
    one = meter()
    one.ended(max_tokens=4, now_s=1000.0, error=None)  # its client left
    assert judged(one) == (0, 4)


def test_who_is_ahead_of_its_deadlines_owes_nothing_at_its_end() -> None:
    one = meter()
    one.written(6, 12.0)
    one.ended(max_tokens=100, now_s=14.5, error=None)  # the seventh would be due at 15
    assert judged(one) == (6, 6)


def test_a_refused_request_was_promised_nothing_unless_tokens_had_come() -> None:
    refused = RequestError(ErrorCode.OVERLOADED, "full")
    one, other = meter(), meter()
    one.ended(max_tokens=4, now_s=1000.0, error=refused)
    assert judged(one) == (0, 0)
    other.written(1, 11.0)
    other.ended(max_tokens=4, now_s=1000.0, error=refused)
    assert judged(other) == (1, 4)


def test_refusals_are_what_http_tells_as_the_clients_fault_or_as_too_much() -> None:
    assert {code for code, shown in TABLE.items() if 400 <= shown.status < 500} == REFUSALS


def test_a_models_requests_add_up() -> None:
    attainment = Attainment()
    assert attainment.of(MODEL).share is None
    first, second = meter(attainment.of(MODEL)), meter(attainment.of(MODEL))
    first.written(3, 12.0)
    second.written(1, 99.0)
    assert attainment.of(MODEL).share == 0.75
    assert dict(attainment) == {MODEL: TokenCounts(num_due=4, num_on_time=3)}
