"""Owners that fall silent, lose frames, or ask for what is not here."""

from typing import Any

import pytest

from gpu_worker import roster as roster_module
from gpu_worker.outbox import Outbox
from gpu_worker.roster import Roster
from gpu_worker.scheduling.round_robin import RoundRobin
from gpu_worker.sequence import Sequence
from shared.errors import ErrorCode
from shared.ids import OwnerId, RequestId
from shared.messages import PromptLogprobs, Resend, TokenLogprobs
from tests.unit.gpu_worker.stand_ins import (
    LIFE,
    OTHER,
    OWNER,
    WORKER,
    assign,
    cancel,
    drain,
    resend,
    run,
    served_model,
    tokens,
)  # fmt: skip


@pytest.fixture
def roster() -> Roster:
    return Roster(Outbox(WORKER, LIFE), RoundRobin(), max_sequences=10)


def add_model(roster: Roster) -> None:
    model, _ = served_model()
    roster.models[model.name] = model


def admit(roster: Roster, request: str = "r", **fields: Any) -> Sequence:
    if not roster.models:
        add_model(roster)
    roster.assign(assign(request, **fields), now_s=1.0)
    sequence = roster.get(RequestId(request))
    assert sequence is not None
    return sequence


def miss_beats(roster: Roster, num: int) -> None:
    for _ in range(num):
        roster.count_missed_beats()


def test_an_owner_that_missed_five_beats_is_freed_without_a_word(roster: Roster) -> None:
    model, pool = served_model()
    roster.models[model.name] = model
    run(model, admit(roster, "running"))
    admit(roster, "waiting")
    roster.advance(admit(roster, "ended", max_tokens=1), 50, now_s=2.0)
    admit(roster, "foreign", owner=OTHER)
    for _ in range(6):
        roster.see_owner(OTHER)
        roster.count_missed_beats()
    assert len(roster) == 1
    assert roster.get(RequestId("foreign")) is not None
    assert pool.used_bytes == 0
    assert drain(roster.outbox) == []
    roster.resend(resend("ended"))
    (entry,) = drain(roster.outbox)
    assert entry.ended is not None
    assert entry.ended.reason == "error"


def test_a_beat_or_an_assignment_counts_as_life(roster: Roster) -> None:
    admit(roster)
    miss_beats(roster, 5)
    roster.see_owner(OWNER)
    miss_beats(roster, 5)
    admit(roster, "another")
    miss_beats(roster, 5)
    assert len(roster) == 2
    miss_beats(roster, 1)
    assert len(roster) == 0


def test_the_table_of_owners_is_bounded_and_who_falls_out_is_freed(
    roster: Roster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster_module, "_MAX_OWNERS", 2)
    admit(roster, "first", owner=OwnerId("o1"))
    admit(roster, "second", owner=OwnerId("o2"))
    roster.see_owner(OwnerId("o1"))
    roster.see_owner(OwnerId("o3"))
    assert roster.get(RequestId("first")) is not None
    assert roster.get(RequestId("second")) is None


def test_a_running_stream_is_said_again_from_where_its_owner_has_it(roster: Roster) -> None:
    sequence = admit(roster)
    for token_id in (50, 51, 52):
        roster.advance(sequence, token_id, now_s=2.0)
    drain(roster.outbox)
    for first, missing in ((0, [50, 51, 52]), (2, [52]), (3, [])):
        roster.resend(resend(first=first))
        assert drain(roster.outbox) == [tokens("r", first, missing, num_cached=0)]


def test_a_waiting_stream_says_that_it_has_no_more(roster: Roster) -> None:
    admit(roster, output=[40, 41])
    roster.resend(resend(first=2))
    assert drain(roster.outbox) == [tokens("r", 2, [], num_cached=0)]


def test_an_ended_stream_is_said_again_until_acknowledged(roster: Roster) -> None:
    sequence = admit(roster, max_tokens=2)
    for token_id in (50, 51):
        roster.advance(sequence, token_id, now_s=2.0)
    end = drain(roster.outbox)[-1].ended
    roster.resend(resend(first=0))
    (entry,) = drain(roster.outbox)
    assert (entry.first, entry.token_ids, entry.ended) == (0, (50, 51), end)
    roster.outbox.acknowledge(OWNER, [RequestId("r")])
    roster.resend(resend(first=0))
    (entry,) = drain(roster.outbox)
    assert entry.ended is not None
    assert (entry.token_ids, entry.ended.code) == ((), ErrorCode.INTERNAL)


def test_a_cancelled_stream_is_said_again_with_what_it_had(roster: Roster) -> None:
    roster.advance(admit(roster), 50, now_s=2.0)
    roster.cancel(cancel(), now_s=3.0)
    drain(roster.outbox)
    roster.resend(resend(first=0))
    (entry,) = drain(roster.outbox)
    assert entry.ended is not None
    assert (entry.token_ids, entry.ended.reason) == ((50,), "cancelled")


@pytest.mark.parametrize("asked", [resend("unknown"), resend(attempt=0), resend(attempt=2), resend(owner=OTHER)])
def test_who_asks_for_what_is_not_here_hears_that_it_is_lost(roster: Roster, asked: roster_module.Resend) -> None:
    sequence = admit(roster, attempt=1)
    roster.resend(asked)
    (entry,) = drain(roster.outbox, asked.owner)
    assert entry.ended is not None
    assert (entry.request_id, entry.attempt) == (asked.request_id, asked.attempt)
    assert (entry.ended.reason, entry.ended.code) == ("error", ErrorCode.INTERNAL)
    assert roster.get(RequestId("r")) is sequence


def test_logprobs_go_out_with_their_tokens_and_are_said_again_with_them(roster: Roster) -> None:
    sequence = admit(roster, prompt=(1, 2, 3, 4), num_logprobs=0, num_prompt_logprobs=1)
    of_prompt = tuple(TokenLogprobs(token_id, -1.0, (9,), (-0.5,)) for token_id in (2, 3, 4))
    of_output = tuple(TokenLogprobs(token_id, -2.0) for token_id in (50, 51))
    roster.score(sequence, of_prompt[:1])
    roster.score(sequence, of_prompt[1:])
    for entry in of_output:
        roster.advance(sequence, entry.token_id, 2.0, entry)
    heard = drain(roster.outbox)
    assert [entry.prompt_logprobs for entry in heard] == [
        PromptLogprobs(0, of_prompt[:1]), PromptLogprobs(1, of_prompt[1:]), None, None
    ]  # fmt: skip
    firsts = [(entry.first, entry.logprobs) for entry in heard]
    assert firsts == [(0, ()), (0, ()), (0, of_output[:1]), (1, of_output[1:])]
    roster.resend(Resend(OWNER, sequence.request_id, 0, 1, first_prompt_logprob=2))
    (again,) = drain(roster.outbox)
    assert (again.token_ids, again.logprobs) == ((51,), of_output[1:])
    assert again.prompt_logprobs == PromptLogprobs(2, of_prompt[2:])


def test_a_later_attempt_says_logprobs_of_its_own_tokens(roster: Roster) -> None:
    sequence = admit(roster, attempt=1, output=[40, 41], num_logprobs=0, num_prompt_logprobs=0)
    entry = TokenLogprobs(50, -2.0)
    roster.advance(sequence, 50, 2.0, entry)
    (said,) = drain(roster.outbox)
    assert (said.first, said.token_ids, said.logprobs) == (2, (50,), (entry,))
    roster.cancel(cancel(attempt=1), now_s=3.0)
    drain(roster.outbox)
    roster.resend(resend(first=2, attempt=1))
    (again,) = drain(roster.outbox)
    assert (again.first, again.token_ids, again.logprobs, again.prompt_logprobs) == (2, (50,), (entry,), None)
