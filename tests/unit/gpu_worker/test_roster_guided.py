"""Sequences whose output has to match a grammar: in no line until their guide is there, and ended by it."""

from typing import Any

import numpy as np
import pytest

from gpu_worker.guidance.guide import Guide
from gpu_worker.outbox import Outbox
from gpu_worker.roster import Roster
from gpu_worker.scheduling.policy import SequenceView
from gpu_worker.scheduling.round_robin import RoundRobin
from gpu_worker.sequence import Sequence
from shared.errors import ErrorCode
from shared.ids import ModelName, RequestId
from shared.messages import Ended, SequenceTokens
from tests.unit.gpu_worker.stand_ins import LIFE, OTHER, OWNER, WORKER, assign, cancel, drain, run, served_model

EOS_ID = 9


class TwoTokens:
    """A matcher of any two tokens but for 13."""

    def __init__(self, num_known: int = 0) -> None:
        self._num = num_known
        self._error = ""

    def consume_token(self, token_id: int) -> bool:
        self._num += 1
        self._error = "unlucky" if token_id == 13 else self._error
        return not self._error

    def is_stopped(self) -> bool:
        return bool(self._error) or self._num >= 2

    def get_error(self) -> str:
        return self._error


def new_guide(num_known: int = 0) -> Guide:
    return Guide(TwoTokens(num_known), num_ids=64, end_id=63)


class StrictPolicy(RoundRobin):
    """Hears of each sequence's end once, and only if it came."""

    def __init__(self) -> None:
        self.entered: set[SequenceView] = set()

    def enter(self, model: ModelName, sequence: SequenceView, now_s: float) -> None:
        self.entered.add(sequence)

    def leave(self, model: ModelName, sequence: SequenceView) -> None:
        self.entered.remove(sequence)


class Worker:
    """A roster with one model."""

    def __init__(self) -> None:
        self.model, self.pool = served_model(max_sequence_tokens=20)
        self.roster = Roster(Outbox(WORKER, LIFE), StrictPolicy(), max_sequences=4)
        self.roster.models[self.model.name] = self.model

    def assign(self, request: str = "r", attempt: int = 0, **fields: Any) -> Sequence:
        self.roster.assign(assign(request, attempt, grammar="g", **fields), now_s=1.0)
        sequence = self.roster.get(RequestId(request))
        assert sequence is not None
        return sequence

    def heard(self) -> list[SequenceTokens]:
        return drain(self.roster.outbox)

    def end(self) -> Ended:
        ended = self.heard()[-1].ended
        assert ended is not None
        return ended


@pytest.fixture
def worker() -> Worker:
    return Worker()


def started(worker: Worker, **sampling: Any) -> Sequence:
    sequence = worker.assign(**{"stop_token_ids": (EOS_ID,), **sampling})
    worker.roster.guide(sequence, new_guide(), now_s=1.5)
    run(worker.model, sequence)
    return sequence


def test_it_is_in_no_line_until_its_guide_is_there(worker: Worker) -> None:
    sequence = worker.assign()
    assert worker.roster.take_unguided() == [(sequence, worker.model)]
    assert worker.roster.take_unguided() == []
    assert sequence not in worker.model.waiting
    worker.roster.guide(sequence, new_guide(), now_s=1.5)
    assert sequence in worker.model.waiting
    assert not worker.model.unguided


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_cancel_meanwhile_frees_it(worker: Worker, is_taken: bool) -> None:
    worker.assign()
    if is_taken:
        worker.roster.take_unguided()
    worker.roster.cancel(cancel(), now_s=2.0)
    assert worker.end().reason == "cancelled"
    assert (len(worker.roster), worker.model.unguided, worker.roster.take_unguided()) == (0, set(), [])


def test_a_newer_attempt_meanwhile_takes_its_place(worker: Worker) -> None:
    worker.assign()
    newer = worker.assign(attempt=1)
    assert worker.model.unguided == {newer}
    assert worker.roster.take_unguided() == [(newer, worker.model)]


def test_an_owner_that_is_gone_meanwhile(worker: Worker) -> None:
    worker.assign()
    worker.roster.see_owner(OTHER)
    for _ in range(6):
        worker.roster.count_missed_beats()
    assert (len(worker.roster), worker.model.unguided) == (0, set())
    assert drain(worker.roster.outbox, OWNER) == []


def test_it_ends_where_its_grammar_does(worker: Worker) -> None:
    sequence = started(worker)
    worker.roster.advance(sequence, 5, now_s=2.0)
    worker.roster.advance(sequence, 6, now_s=3.0)
    *_, last = worker.heard()
    assert last.ended is not None
    assert (last.first, last.token_ids, last.ended.reason) == (1, (6,), "stop")
    assert (len(worker.roster), worker.pool.used_bytes) == (0, 0)


def test_the_grammars_end_comes_before_min_tokens_and_at_max_tokens_it_is_a_stop(worker: Worker) -> None:
    sequence = started(worker, min_tokens=2, max_tokens=2)
    for token_id in (5, 6):
        worker.roster.advance(sequence, token_id, now_s=2.0)
    assert worker.end().reason == "stop"


def test_max_tokens_may_cut_it(worker: Worker) -> None:
    sequence = started(worker, max_tokens=1)
    worker.roster.advance(sequence, 5, now_s=2.0)
    assert worker.end().reason == "length"


def test_a_stop_token_ends_it_as_ever(worker: Worker) -> None:
    sequence = started(worker)
    worker.roster.advance(sequence, 5, now_s=2.0)
    worker.roster.advance(sequence, EOS_ID, now_s=3.0)
    last = worker.heard()[-1]
    assert last.ended is not None
    assert (last.token_ids, last.ended.reason) == ((EOS_ID,), "stop")


def test_what_was_drawn_where_only_the_end_was_left_is_not_said(worker: Worker) -> None:
    sequence = started(worker)
    worker.roster.advance(sequence, 5, now_s=2.0)
    assert isinstance(sequence.guide, Guide)
    only_end = np.array([0, 1 << 31], np.uint32)
    sequence.guide.settle(only_end, (), may_stop=True)
    worker.roster.advance(sequence, 40, now_s=3.0)
    last = worker.heard()[-1]
    assert last.ended is not None
    assert (last.first, last.token_ids, last.ended.reason) == (1, (), "stop")


def test_a_failure_ends_it_alone_and_the_client_hears_why(worker: Worker) -> None:
    sequence, other = started(worker), worker.assign("other")
    worker.roster.advance(sequence, 5, now_s=2.0)
    worker.roster.advance(sequence, 13, now_s=3.0)
    last = worker.heard()[-1]
    assert last.ended is not None
    assert (last.first, last.token_ids) == (1, ())
    assert (last.ended.reason, last.ended.code) == ("error", ErrorCode.INVALID_REQUEST)
    assert "unlucky" in last.ended.message
    assert worker.roster.get(RequestId("other")) is other


def test_an_earlier_attempt_may_have_completed_it(worker: Worker) -> None:
    sequence = worker.assign(attempt=1, output=[5, 6])
    worker.roster.guide(sequence, new_guide(num_known=2), now_s=2.0)
    (entry,) = worker.heard()
    assert entry.ended is not None
    assert (entry.first, entry.token_ids, entry.ended.reason) == (2, (), "stop")
    assert (len(worker.roster), worker.model.unguided) == (0, set())


def test_a_model_with_such_a_sequence_has_work(worker: Worker) -> None:
    worker.assign()
    assert worker.model.unguided
    assert not worker.model.waiting
