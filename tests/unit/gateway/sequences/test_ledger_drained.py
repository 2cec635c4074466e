"""A worker that is being drained hands its sequences over, where another one can take them."""

import pytest
from msgspec.structs import replace

from gateway.sequences.ledger import Submission
from shared.ids import Incarnation, ModelName, WorkerId
from shared.messages import Cancel, Ended, WorkerBeat
from tests.unit.gateway.builders import MODEL, OWNER, WORKER, assigned, beat, frame, tokens
from tests.unit.gateway.sequences.desk import Desk, R

OTHER = WorkerId("worker-1")
FITS = {MODEL: 103}  # a prompt of 3 tokens, and an output of 100


def draining(*, last_frame: int = 0, life: str = "life-1") -> WorkerBeat:
    return replace(beat(last_frame=last_frame, life=Incarnation(life)), draining=True)


def test_it_goes_on_elsewhere_from_the_tokens_so_far_and_what_the_first_one_still_says_is_dropped() -> None:
    desk = Desk()
    sequence = desk.running()
    desk.frame(1, tokens(0, 10, 11))
    [act] = desk.ledger.on_worker_beat(draining(last_frame=1), desk.now_s, FITS)
    assert isinstance(act, Submission)
    assert (act.submit.attempt, act.submit.output) == (1, (10, 11))
    assert desk.frame(2, tokens(2, 99)) == [Cancel(R, 0, OWNER, MODEL, WORKER)]
    desk.ledger.on_assigned(assigned(attempt=1, worker=OTHER), desk.now_s)
    assert desk.ledger.on_worker_beat(draining(last_frame=2), desk.now_s, FITS) == []  # it is not there any more
    desk.ledger.on_frame(frame(1, tokens(2, 12, attempt=1, ended="stop"), worker=OTHER), desk.now_s)
    assert (sequence.output, sequence.ended) == ([10, 11, 12], Ended("stop"))


@pytest.mark.parametrize("fits", [{}, {ModelName("another"): 1000}, {MODEL: 102}])
def test_with_nobody_who_could_take_it_the_worker_finishes_it(fits: dict[ModelName, int]) -> None:
    desk = Desk()
    sequence = desk.running()
    assert desk.ledger.on_worker_beat(draining(), desk.now_s, fits) == []
    assert desk.frame(1, tokens(0, 10, ended="stop")) != []
    assert (sequence.output, sequence.attempt) == ([10], 0)


def test_only_while_it_is_being_drained() -> None:
    desk = Desk()
    desk.running()
    assert desk.ledger.on_worker_beat(beat(), desk.now_s, FITS) == []


def test_to_be_handed_over_is_no_crash_however_often() -> None:
    desk = Desk()
    sequence = desk.running()
    for attempt in range(1, 5):
        [act] = desk.ledger.on_worker_beat(draining(), desk.now_s, FITS)
        assert isinstance(act, Submission) and act.submit.attempt == attempt
        desk.ledger.on_assigned(assigned(attempt=attempt), desk.now_s)  # back, by a router that knew no better
    assert sequence.ended is None


def test_what_its_tokens_end_is_not_run_again() -> None:
    desk = Desk()
    sequence = desk.running(max_tokens=1)
    desk.frame(1, tokens(0, 10))
    assert desk.ledger.on_worker_beat(draining(last_frame=1), desk.now_s, FITS) == []
    assert sequence.ended == Ended("length")
