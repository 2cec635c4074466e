"""Cancels: of a client, of a reader that was too slow, of a gateway that stops."""

import pytest

from gateway.sequences.ledger import Publish
from shared import subjects
from shared.errors import ErrorCode, RequestError
from shared.ids import RequestId
from shared.messages import Accepted, Cancel, EndAck
from tests.unit.gateway.builders import MODEL, OWNER, ROUTER, WORKER, tokens
from tests.unit.gateway.sequences.desk import Desk, R, published


def test_a_cancel_takes_the_requests_road_in_every_phase() -> None:
    desk = Desk()
    desk.open("submitting")
    desk.open("accepted")
    desk.ledger.on_accepted(Accepted(RequestId("accepted"), 0, ROUTER), desk.now_s)
    desk.running("running")
    for request, worker in (("submitting", None), ("accepted", None), ("running", WORKER)):
        acts = desk.ledger.cancel(RequestId(request), desk.now_s)
        assert acts == [Publish(subjects.request(MODEL), Cancel(RequestId(request), 0, OWNER, MODEL, worker))]
    assert len(desk.ledger) == 0


@pytest.mark.parametrize("has_ended", [False, True])
def test_what_an_abandoned_reader_left_unread_is_forgotten(has_ended: bool) -> None:
    desk = Desk()
    sequence = desk.running()
    desk.frame(1, tokens(0, 10, 11, 12, ended="stop" if has_ended else None))
    error = RequestError(ErrorCode.CLIENT_TOO_SLOW, "too slow")
    num_wakes = desk.num_wakes
    cancelled = published(desk.ledger.cancel(R, desk.now_s))
    assert cancelled == ([] if has_ended else [Cancel(R, 0, OWNER, MODEL, WORKER)])
    desk.ledger.abandon(sequence, 1, error)
    assert (sequence.output, sequence.ended, desk.num_wakes) == ([10], error, num_wakes + 1)
    desk.frame(2, tokens(3, 13))  # it was on its way
    assert sequence.output == [10]


def test_a_cancel_after_the_end_says_nothing() -> None:
    desk = Desk()
    desk.running()
    desk.frame(1, tokens(0, 10, ended="stop"))
    assert desk.ledger.cancel(R, desk.now_s) == []


def test_a_lost_cancel_is_repeated_when_its_tokens_come_on() -> None:
    desk = Desk()
    desk.running()
    desk.ledger.cancel(R, desk.now_s)
    assert desk.frame(1, tokens(0, 10)) == []  # on their way when it was said
    desk.now_s += 2.0
    assert desk.frame(2, tokens(1, 11)) == [Cancel(R, 0, OWNER, MODEL, WORKER)]
    assert desk.frame(3, tokens(2, ended="cancelled")) == [EndAck(OWNER, (R,))]


def test_a_gateway_that_stops_ends_all_with_an_error_and_cancels() -> None:
    desk = Desk()
    sequences = [desk.running("a"), desk.open("b")]
    error = RequestError(ErrorCode.UNAVAILABLE, "stopping")
    cancels = published(desk.ledger.end_all(error, desk.now_s))
    assert [type(cancel) for cancel in cancels] == [Cancel, Cancel]
    assert [sequence.ended for sequence in sequences] == [error, error]
    assert (desk.num_wakes, len(desk.ledger)) == (2, 0)
