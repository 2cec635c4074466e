"""Attempts of a traced sequence: each has a span of its own, which its worker hears of."""

from gateway.sequences.ledger import Submission
from gateway.tracing.sequence_trace import SequenceTrace
from shared.ids import WorkerId
from shared.spans import SpanContext
from tests.unit.gateway.builders import assigned, submit, tokens
from tests.unit.gateway.sequences.desk import Desk, lose_by_new_life

ROOT = SpanContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")


def test_each_attempt_is_told_its_own_span() -> None:
    desk = Desk()
    trace = SequenceTrace(ROOT, desk.now_s)
    _, [first] = desk.ledger.open(submit(), desk.now_s, lambda: None, trace)
    assert isinstance(first, Submission)
    assert first.submit.traceparent == trace.attempts[0].context.header()
    assert trace.attempts[0].context.trace_id == ROOT.trace_id
    desk.ledger.on_assigned(assigned(), desk.now_s + 1)
    desk.frame(1, tokens(0, 10))
    [again] = lose_by_new_life(desk)
    assert isinstance(again, Submission)
    assert again.submit.traceparent == trace.attempts[1].context.header() != first.submit.traceparent
    desk.ledger.on_assigned(assigned(attempt=1, worker=WorkerId("worker-1")), desk.now_s + 3)
    one, other = trace.attempts
    assert (one.worker, one.assigned_at_s, one.ended_at_s) == ("worker-0", desk.now_s + 1, None)
    assert (other.worker, other.assigned_at_s) == ("worker-1", desk.now_s + 3)


def test_its_end_is_noted() -> None:
    desk = Desk()
    trace = SequenceTrace(ROOT, desk.now_s)
    desk.ledger.open(submit(), desk.now_s, lambda: None, trace)
    desk.ledger.on_assigned(assigned(), desk.now_s)
    desk.frame(1, tokens(0, 10))
    assert trace.attempts[0].ended_at_s is None
    desk.frame(2, tokens(1, 11, ended="stop"))
    assert trace.attempts[0].ended_at_s == desk.now_s


def test_who_is_not_traced_says_so() -> None:
    desk = Desk()
    _, [first] = desk.ledger.open(submit(), desk.now_s, lambda: None)
    assert isinstance(first, Submission)
    assert first.submit.traceparent == ""
