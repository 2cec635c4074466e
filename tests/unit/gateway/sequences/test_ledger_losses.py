"""Workers that are lost, routers that come and go, and what either refuses."""

import pytest

from gateway.sequences.ledger import Act, Submission
from shared.errors import ErrorCode, RequestError
from shared.ids import Incarnation, RequestId, WorkerId
from shared.messages import Accepted, Cancel, Ended, Refused, RouterBeat, SequenceTokens
from tests.unit.gateway.builders import MODEL, OWNER, ROUTER, WORKER, assigned, beat, frame, tokens
from tests.unit.gateway.sequences.desk import DEAD_S, Desk, R, lose_by_new_life, resend

# --- lost workers -------------------------------------------------------------------------------


def lose_by_silence(desk: Desk) -> list[Act]:
    return desk.ledger.tick(desk.now_s + DEAD_S + 0.1)


@pytest.mark.parametrize("lose", [lose_by_new_life, lose_by_silence])
def test_a_lost_worker_means_the_next_attempt_from_the_tokens_so_far(lose) -> None:  # type: ignore[no-untyped-def]
    desk = Desk()
    sequence = desk.running()
    desk.frame(1, tokens(0, 10, 11))
    [act] = lose(desk)
    assert isinstance(act, Submission)
    assert (act.submit.attempt, act.submit.output, act.submit.prompt) == (1, (10, 11), (5, 6, 7))
    desk.ledger.on_assigned(assigned(attempt=1, worker=WorkerId("worker-1")), desk.now_s)
    desk.ledger.on_frame(frame(1, tokens(2, 12, attempt=1, ended="stop"), worker=WorkerId("worker-1")), desk.now_s)
    assert sequence.output == [10, 11, 12]
    assert sequence.ended == Ended("stop")


def test_the_second_loss_ends_it_with_an_error() -> None:
    desk = Desk()
    sequence = desk.running()
    lose_by_new_life(desk)
    desk.ledger.on_assigned(assigned(attempt=1, life=Incarnation("life-2")), desk.now_s)
    assert desk.ledger.on_worker_beat(beat(life=Incarnation("life-3")), desk.now_s) == []
    assert isinstance(sequence.ended, RequestError)
    assert sequence.ended.code is ErrorCode.INTERNAL
    assert len(desk.ledger) == 0


def test_tokens_of_an_older_attempt_are_dropped_and_it_is_cancelled_once_a_second() -> None:
    desk = Desk()
    sequence = desk.running()
    desk.frame(1, tokens(0, 10))
    lose_by_new_life(desk)
    stray = [Cancel(R, 0, OWNER, MODEL, WORKER)]
    assert desk.frame(2, tokens(1, 99)) == stray
    assert desk.frame(3, tokens(2, 99)) == []
    desk.now_s += 1.0
    assert desk.frame(4, tokens(3, 99)) == stray
    assert sequence.output == [10]


@pytest.mark.parametrize(
    ("last_token", "max_tokens", "reason"), [(1, 100, "stop"), (10, 1, "length")], ids=["stop token", "max_tokens"]
)
def test_a_worker_lost_before_it_could_say_the_end(last_token: int, max_tokens: int, reason: str) -> None:
    desk = Desk()
    sequence = desk.running(max_tokens=max_tokens)
    desk.frame(1, tokens(0, last_token))
    assert lose_by_new_life(desk) == []
    assert isinstance(sequence.ended, Ended)
    assert sequence.ended.reason == reason


def test_a_worker_that_forgot_what_it_is_asked_for() -> None:
    desk = Desk()
    desk.running()
    assert desk.frame(2) == [resend(0)]
    unknown = SequenceTokens(R, 0, 0, (), Ended("error", ErrorCode.INTERNAL, "unknown"))
    acts = desk.ledger.on_frame(frame(3, unknown), desk.now_s)
    assert [act.submit.attempt for act in acts if isinstance(act, Submission)] == [1]


def test_an_error_of_the_worker_is_the_clients() -> None:
    desk = Desk()
    sequence = desk.running()
    full = SequenceTokens(R, 0, 0, (), Ended("error", ErrorCode.OVERLOADED, "full"))
    desk.ledger.on_frame(frame(1, full), desk.now_s)
    assert isinstance(sequence.ended, RequestError)
    assert (sequence.ended.code, sequence.ended.message) == (ErrorCode.OVERLOADED, "full")


# --- routers ------------------------------------------------------------------------------------


def test_a_new_router_gets_what_the_old_one_had_not_assigned() -> None:
    desk = Desk()
    desk.ledger.on_router_beat(RouterBeat(ROUTER))
    desk.running("a")
    held = desk.open("b")
    desk.ledger.on_accepted(Accepted(RequestId("b"), 0, ROUTER), desk.now_s)
    desk.open("c")  # not accepted yet: its submission goes on by itself
    assert desk.ledger.on_router_beat(RouterBeat(ROUTER)) == []
    acts = desk.ledger.on_router_beat(RouterBeat(Incarnation("router-2")))
    assert acts == [Submission(held.first_submit, desk.now_s)]


def test_what_the_new_router_accepted_itself_is_not_sent_twice() -> None:
    desk = Desk()
    desk.ledger.on_router_beat(RouterBeat(ROUTER))
    desk.open()
    desk.ledger.on_accepted(Accepted(R, 0, Incarnation("router-2")), desk.now_s)
    assert desk.ledger.on_router_beat(RouterBeat(Incarnation("router-2"))) == []


def test_a_refusal_ends_it_with_its_reason() -> None:
    desk = Desk()
    sequence = desk.open()
    desk.ledger.on_refused(Refused(R, 0, ErrorCode.UNAVAILABLE, "no worker", 2.0))
    assert isinstance(sequence.ended, RequestError)
    assert (sequence.ended.code, sequence.ended.retry_after_s) == (ErrorCode.UNAVAILABLE, 2.0)
    assert desk.num_wakes == 1


def test_answers_to_an_older_attempt_change_nothing() -> None:
    desk = Desk()
    sequence = desk.running()
    lose_by_new_life(desk)
    desk.ledger.on_refused(Refused(R, 0, ErrorCode.UNAVAILABLE, "old"))
    desk.ledger.on_assigned(assigned(attempt=0), desk.now_s)
    assert sequence.ended is None
    assert sequence.place is None
