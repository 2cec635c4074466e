"""How sequences come and end. What owners lose and ask for again is in test_roster_owners.py."""

from collections.abc import Callable
from typing import Any

import pytest

from gpu_worker import roster as roster_module
from gpu_worker.memory.slab_pool import SlabPool
from gpu_worker.outbox import Outbox
from gpu_worker.roster import Roster
from gpu_worker.scheduling.round_robin import RoundRobin
from gpu_worker.sequence import Sequence
from gpu_worker.served_model import ServedModel
from shared.errors import ErrorCode
from shared.ids import RequestId
from shared.messages import SequenceTokens
from tests.unit.gpu_worker.stand_ins import LIFE, OTHER, OWNER, WORKER, assign, cancel, drain, run, served_model, tokens

State = Callable[["Worker", Sequence], None]


class Worker:
    """A roster with one model."""

    def __init__(self, max_sequences: int = 4) -> None:
        self.model: ServedModel
        self.pool: SlabPool
        self.model, self.pool = served_model(max_sequence_tokens=20)
        self.roster = Roster(Outbox(WORKER, LIFE), RoundRobin(), max_sequences)
        self.roster.models[self.model.name] = self.model

    def assign(self, request: str = "r", attempt: int = 0, **fields: Any) -> Sequence:
        self.roster.assign(assign(request, attempt, **fields), now_s=1.0)
        sequence = self.roster.get(RequestId(request))
        assert sequence is not None
        return sequence

    def run(self, sequence: Sequence) -> None:
        run(self.model, sequence)

    def heard(self) -> list[SequenceTokens]:
        return drain(self.roster.outbox)

    def assert_empty(self) -> None:
        assert len(self.roster) == 0
        assert not self.model.running
        assert not self.model.waiting
        assert self.pool.used_bytes == 0


@pytest.fixture
def worker() -> Worker:
    return Worker()


def waiting(worker: Worker, sequence: Sequence) -> None:
    assert sequence in worker.model.waiting


def prefilling(worker: Worker, sequence: Sequence) -> None:
    worker.run(sequence)
    sequence.num_computed_tokens = 2


def decoding(worker: Worker, sequence: Sequence) -> None:
    worker.run(sequence)
    sequence.num_computed_tokens = sequence.num_tokens
    worker.roster.advance(sequence, 50, now_s=2.0)


def preempted(worker: Worker, sequence: Sequence) -> None:
    decoding(worker, sequence)
    worker.model.preempt(sequence)
    assert (sequence.num_computed_tokens, sequence.block_ids, worker.pool.used_bytes) == (0, [], 0)
    waiting(worker, sequence)


STATES = (waiting, prefilling, decoding, preempted)


@pytest.mark.parametrize("state", STATES)
def test_a_cancel_frees_and_ends_once_in_every_state(worker: Worker, state: State) -> None:
    state(worker, worker.assign())
    output = [token for entry in worker.heard() for token in entry.token_ids]
    for _ in range(2):
        worker.roster.cancel(cancel(), now_s=3.0)
    worker.assert_empty()
    (entry,) = worker.heard()
    assert (entry.first, entry.token_ids) == (len(output), ())
    assert entry.ended is not None
    assert entry.ended.reason == "cancelled"


@pytest.mark.parametrize("state", STATES)
def test_a_failure_frees_and_ends_once_in_every_state(worker: Worker, state: State) -> None:
    sequence, other = worker.assign(), worker.assign("other")
    state(worker, sequence)
    worker.heard()
    for _ in range(2):
        worker.roster.fail([sequence], 3.0, "the step failed")
    (entry,) = worker.heard()
    assert entry.ended is not None
    assert (entry.ended.reason, entry.ended.code) == ("error", ErrorCode.INTERNAL)
    assert entry.ended.message == "the step failed"
    worker.roster.fail([other], 3.0, "")
    worker.assert_empty()


@pytest.mark.parametrize("state", STATES)
def test_a_newer_attempt_takes_the_place_of_an_older_one(worker: Worker, state: State) -> None:
    state(worker, worker.assign())
    worker.heard()
    newer = worker.assign(attempt=1, output=[7])
    assert (len(worker.roster), newer.attempt, newer.output) == (1, 1, [7])
    assert worker.pool.used_bytes == 0
    assert worker.heard() == []
    waiting(worker, newer)


def test_the_same_or_an_older_attempt_changes_nothing(worker: Worker) -> None:
    sequence = worker.assign(attempt=1)
    for attempt in (0, 1):
        assert worker.assign(attempt=attempt) is sequence
    assert worker.heard() == []


def test_an_assignment_repeated_after_the_end_says_the_end_again(worker: Worker) -> None:
    worker.roster.advance(worker.assign(max_tokens=1), 50, now_s=2.0)
    (end,) = worker.heard()
    worker.roster.assign(assign(max_tokens=1), now_s=3.0)
    assert len(worker.roster) == 0
    assert worker.heard() == [end]


def test_a_cancel_does_not_reach_newer_attempts_nor_foreign_sequences(worker: Worker) -> None:
    worker.assign(attempt=1)
    worker.roster.cancel(cancel(attempt=0), now_s=2.0)
    worker.roster.cancel(cancel(attempt=1, owner=OTHER), now_s=2.0)
    assert len(worker.roster) == 1
    assert worker.heard() == []


def test_what_was_cancelled_before_it_came_does_not_run(worker: Worker) -> None:
    worker.roster.cancel(cancel(attempt=1), now_s=1.0)
    for attempt in (0, 1):
        worker.roster.assign(assign(attempt=attempt, output=[7]), now_s=2.0)
        (entry,) = worker.heard()
        assert entry.ended is not None
        assert (entry.attempt, entry.first, entry.token_ids, entry.ended.reason) == (attempt, 1, (), "cancelled")
    worker.assert_empty()
    worker.assign(attempt=2)


def test_a_newer_attempts_cancel_ends_the_older_and_stays(worker: Worker) -> None:
    worker.assign(attempt=0)
    worker.roster.cancel(cancel(attempt=1), now_s=2.0)
    worker.roster.assign(assign(attempt=1), now_s=3.0)
    worker.assert_empty()
    assert [(entry.attempt, entry.ended and entry.ended.reason) for entry in worker.heard()] == [
        (0, "cancelled"),
        (1, "cancelled"),
    ]


def test_tombstones_are_bounded_and_the_oldest_goes(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster_module, "_MAX_TOMBSTONES", 2)
    for name in ("a", "b", "c"):
        worker.roster.cancel(cancel(name), now_s=1.0)
    worker.assign("a")
    for name in ("b", "c"):
        worker.roster.assign(assign(name), now_s=1.0)
    assert len(worker.roster) == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "unknown"}, ErrorCode.UNAVAILABLE),
        ({"prompt": ()}, ErrorCode.INVALID_REQUEST),
        ({"prompt": range(20)}, ErrorCode.CONTEXT_LENGTH_EXCEEDED),
        ({"prompt": range(15), "output": range(5)}, ErrorCode.CONTEXT_LENGTH_EXCEEDED),
    ],
)
def test_refusals(worker: Worker, fields: dict[str, Any], code: ErrorCode) -> None:
    worker.roster.assign(assign(**fields), now_s=1.0)
    worker.assert_empty()
    (entry,) = worker.heard()
    assert entry.ended is not None
    assert (entry.ended.reason, entry.ended.code) == ("error", code)
    assert entry.ended.message


def test_a_full_queue_refuses_until_one_has_ended(worker: Worker) -> None:
    for name in "abcd":
        worker.assign(name)
    worker.roster.assign(assign("e"), now_s=1.0)
    (entry,) = worker.heard()
    assert entry.ended is not None
    assert entry.ended.code is ErrorCode.OVERLOADED
    worker.roster.cancel(cancel("a"), now_s=2.0)
    worker.assign("f")


def test_an_earlier_attempt_may_have_got_all_the_tokens(worker: Worker) -> None:
    worker.roster.assign(assign(attempt=1, output=[5, 6], max_tokens=2), now_s=1.0)
    worker.assert_empty()
    (entry,) = worker.heard()
    assert entry.ended is not None
    assert (entry.first, entry.token_ids, entry.ended.reason) == (2, (), "length")


def test_tokens_go_out_one_by_one_and_continue_an_earlier_output(worker: Worker) -> None:
    sequence = worker.assign(output=[40])
    sequence.num_cached_tokens = 2
    for token_id in (50, 51):
        worker.roster.advance(sequence, token_id, now_s=2.0)
    assert worker.heard() == [tokens("r", 1, [50], num_cached=2), tokens("r", 2, [51])]


def test_max_tokens_counts_the_earlier_output(worker: Worker) -> None:
    sequence = worker.assign(output=[40], max_tokens=3)
    worker.roster.advance(sequence, 50, now_s=2.0)
    worker.roster.advance(sequence, 51, now_s=2.0)
    last = worker.heard()[-1]
    assert last.ended is not None
    assert (last.first, last.token_ids, last.ended.reason) == (2, (51,), "length")
    worker.assert_empty()


def test_a_sequence_ends_where_the_memory_for_one_does(worker: Worker) -> None:
    sequence = worker.assign(prompt=range(18), max_tokens=50)
    worker.roster.advance(sequence, 50, now_s=2.0)
    assert len(worker.roster) == 1
    worker.roster.advance(sequence, 51, now_s=2.0)
    worker.assert_empty()
    assert [entry.ended and entry.ended.reason for entry in worker.heard()] == [None, "length"]


def test_a_stop_token_ends_after_min_tokens_and_is_said(worker: Worker) -> None:
    sequence = worker.assign(stop_token_ids=(9, 10), min_tokens=2)
    for token_id in (9, 10):  # masked by the sampler; here it may not end either
        worker.roster.advance(sequence, token_id, now_s=2.0)
    assert len(worker.roster) == 1
    worker.roster.advance(sequence, 10, now_s=2.0)
    last = worker.heard()[-1]
    assert last.ended is not None
    assert (last.first, last.token_ids, last.ended.reason) == (2, (10,), "stop")
    worker.assert_empty()


def test_a_stop_token_at_max_tokens_is_a_stop(worker: Worker) -> None:
    sequence = worker.assign(stop_token_ids=(9,), max_tokens=1)
    worker.roster.advance(sequence, 9, now_s=2.0)
    assert [entry.ended and entry.ended.reason for entry in worker.heard()] == ["stop"]


def test_an_end_has_the_timings(worker: Worker) -> None:
    sequence = worker.assign(max_tokens=2)
    sequence.first_step_at_s = 3.0
    worker.roster.advance(sequence, 50, now_s=6.0)
    worker.run(sequence)
    worker.model.preempt(sequence)
    worker.roster.advance(sequence, 51, now_s=10.0)
    ended = worker.heard()[-1].ended
    assert ended is not None
    assert (ended.queue_s, ended.prefill_s, ended.decode_s, ended.num_preemptions) == (2.0, 3.0, 4.0, 1)


def test_the_last_assignment_is_remembered_even_if_refused(worker: Worker) -> None:
    worker.assign("a", number=3)
    worker.roster.assign(assign("b", number=7, model="unknown"), now_s=1.0)
    assert (worker.roster.last_router, worker.roster.last_assignment) == ("router", 7)
    assert worker.roster.outbox.last_frames.get(OWNER) is None


def test_a_model_that_came_back_with_other_weights_shares_no_kv_with_the_former_one(worker: Worker) -> None:
    first, second = worker.assign("first"), worker.assign("second")
    worker.model.content_id = "other weights"
    assert first.root_key == second.root_key != worker.assign("third").root_key
