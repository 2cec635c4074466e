from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.sequences.ledger import BEHIND_S, QUIET_S, Act, Ledger, Publish, Submission
from gateway.sequences.sequence import Place, Sequence
from shared import subjects
from shared.errors import ErrorCode, RequestError
from shared.ids import Incarnation, RequestId, WorkerId
from shared.messages import (
    Accepted,
    Cancel,
    EndAck,
    Ended,
    Message,
    PromptLogprobs,
    Refused,
    Resend,
    RouterBeat,
    SequenceTokens,
    TokenLogprobs,
)
from tests.unit.gateway.builders import LIFE, MODEL, OWNER, ROUTER, WORKER, assigned, beat, frame, submit, tokens

DEAD_S = 10.0
R = RequestId("r")


@dataclass
class Desk:
    """A ledger with a clock, and what it has said so far."""

    now_s: float = 100.0
    ledger: Ledger = field(default_factory=lambda: Ledger(OWNER, DEAD_S, 16))
    num_wakes: int = 0

    def open(self, request: str = "r", **about: int) -> Sequence:
        sequence, acts = self.ledger.open(submit(request, **about), self.now_s, self._wake)  # type: ignore[arg-type]
        assert acts == [Submission(sequence.first_submit, self.now_s)]
        return sequence

    def running(self, request: str = "r", **about: int) -> Sequence:
        """Assigned to WORKER."""
        sequence = self.open(request, **about)
        self.ledger.on_accepted(Accepted(RequestId(request), 0, ROUTER), self.now_s)
        self.ledger.on_assigned(assigned(request), self.now_s)
        return sequence

    def frame(self, number: int, *sequences: SequenceTokens, life: Incarnation = LIFE) -> list[Message]:
        return published(self.ledger.on_frame(frame(number, *sequences, life=life), self.now_s))

    def _wake(self) -> None:
        self.num_wakes += 1


def published(acts: list[Act]) -> list[Message]:
    assert all(isinstance(act, Publish) for act in acts)
    return [act.message for act in acts if isinstance(act, Publish)]


def resend(first: int, request: str = "r", attempt: int = 0) -> Resend:
    return Resend(OWNER, RequestId(request), attempt, first)


# --- tokens -------------------------------------------------------------------------------------


def test_tokens_arrive_in_order_and_the_end_is_acknowledged() -> None:
    desk = Desk()
    sequence = desk.running()
    assert desk.frame(1, tokens(0, 10)) == []
    assert desk.frame(2, tokens(1, 11, 12, ended="stop")) == [EndAck(OWNER, (R,))]
    assert sequence.output == [10, 11, 12]
    assert sequence.ended == Ended("stop")
    assert desk.num_wakes == 3
    assert len(desk.ledger) == 0


def test_ends_of_one_frame_are_acknowledged_together_to_their_worker() -> None:
    desk = Desk()
    desk.running("a"), desk.running("b")
    both = frame(1, tokens(0, 9, request="a", ended="stop"), tokens(0, 9, request="b", ended="length"))
    acts = desk.ledger.on_frame(both, desk.now_s)
    assert acts == [Publish(subjects.worker(WORKER), EndAck(OWNER, (RequestId("a"), RequestId("b"))))]


def test_repeated_tokens_are_taken_once() -> None:
    desk = Desk()
    sequence = desk.running()
    desk.frame(1, tokens(0, 10, 11))
    desk.frame(1, tokens(0, 10, 11))
    desk.frame(2, tokens(1, 11, 12))
    assert sequence.output == [10, 11, 12]


def test_a_repeated_end_is_acknowledged_again() -> None:
    desk = Desk()
    desk.running()
    desk.frame(1, tokens(0, 10, ended="stop"))
    assert desk.frame(2, tokens(0, 10, ended="stop")) == [EndAck(OWNER, (R,))]


def test_a_frame_before_its_assigned_tells_the_place() -> None:
    desk = Desk()
    sequence = desk.open()
    desk.frame(1, tokens(0, 10))
    assert sequence.place == Place(WORKER, LIFE)


# --- lost frames --------------------------------------------------------------------------------


def test_a_hole_in_its_tokens_is_asked_for_once_and_filled() -> None:
    desk = Desk()
    sequence = desk.running()
    desk.frame(1, tokens(0, 10))
    assert desk.frame(3, tokens(2, 12)) == [resend(1)]
    assert desk.frame(4, tokens(3, 13)) == []  # it has been asked for
    assert sequence.output == [10]
    assert desk.frame(5, tokens(1, 11, 12, 13)) == []
    assert sequence.output == [10, 11, 12, 13]


def test_a_gap_asks_for_the_sequences_that_are_not_in_the_frame() -> None:
    desk = Desk()
    desk.running("a"), desk.running("b")
    assert desk.frame(2, tokens(0, 10, request="a")) == [resend(0, "b")]


def test_an_end_in_a_lost_frame_shows_in_the_beat() -> None:
    desk = Desk()
    desk.running()
    desk.frame(1, tokens(0, 10))
    assert published(desk.ledger.on_worker_beat(beat(last_frame=2), desk.now_s)) == [resend(1)]
    assert published(desk.ledger.on_worker_beat(beat(last_frame=2), desk.now_s)) == []
    assert desk.frame(3, tokens(1, 11, ended="stop")) == [EndAck(OWNER, (R,))]


def test_an_end_that_came_too_early_is_not_acknowledged() -> None:
    desk = Desk()
    sequence = desk.running()
    assert desk.frame(2, tokens(1, 11, ended="stop")) == [resend(0)]
    assert sequence.ended is None


def test_a_lost_answer_is_asked_for_again_at_the_tick() -> None:
    desk = Desk()
    desk.running()
    desk.frame(2)
    assert desk.ledger.tick(desk.now_s + BEHIND_S / 2) == []
    assert published(desk.ledger.tick(desk.now_s + BEHIND_S)) == [resend(0)]


@given(st.lists(st.sampled_from(["deliver", "lose", "repeat"]), max_size=30), st.randoms(use_true_random=False))
def test_whatever_frames_are_lost_or_repeated_the_output_is_complete(fates: list[str], random) -> None:  # type: ignore[no-untyped-def]
    """A worker that answers each Resend, over a road that loses and repeats frames; beats come through."""
    desk = Desk()
    sequence = desk.running(max_tokens=len(fates) + 1)
    produced: list[int] = []
    number = 0
    to_say: list[SequenceTokens] = []

    def say(fate: str) -> None:
        nonlocal number, to_say
        number += 1
        saying, to_say = frame(number, *to_say), []
        for _ in range({"deliver": 1, "lose": 0, "repeat": 2}[fate]):
            hear(desk.ledger.on_frame(saying, desk.now_s))

    def hear(acts: list[Act]) -> None:
        for message in published(acts):
            if isinstance(message, Resend):
                is_last = len(produced) == len(fates) + 1
                missing = tokens(message.first, *produced[message.first :], ended="length" if is_last else None)
                to_say.append(missing)

    for fate in [*fates, "lose"]:
        produced.append(random.randrange(2, 300))
        is_last = len(produced) == len(fates) + 1
        to_say.append(tokens(len(produced) - 1, produced[-1], ended="length" if is_last else None))
        say(fate)
    hear(desk.ledger.on_worker_beat(beat(last_frame=number), desk.now_s))
    say("deliver")
    assert sequence.output == produced
    assert sequence.ended == Ended("length")


def scored(first: int, last: int) -> tuple[TokenLogprobs, ...]:
    return tuple(TokenLogprobs(i, -float(i)) for i in range(first, last))


def test_log_probabilities_are_placed_with_their_tokens() -> None:
    desk = Desk()
    sequence = desk.running()
    desk.frame(1, replace(tokens(0, 10, 11), logprobs=scored(0, 2)))
    desk.frame(2, replace(tokens(1, 11, 12), logprobs=scored(1, 3)))  # a repeat, and one more
    assert (sequence.output, tuple(sequence.logprobs)) == ([10, 11, 12], scored(0, 3))


def test_a_prompts_log_probabilities_come_before_its_first_token_or_are_asked_for() -> None:
    desk = Desk()
    sequence = desk.running(num_prompt_logprobs=0)  # of three tokens
    desk.frame(1, replace(tokens(0), prompt_logprobs=PromptLogprobs(0, scored(0, 1))))
    assert desk.frame(2, tokens(0, 10)) == [Resend(OWNER, R, 0, 0, first_prompt_logprob=1)]
    assert sequence.output == []
    again = PromptLogprobs(1, scored(1, 2))
    assert desk.frame(3, replace(tokens(0, 10), prompt_logprobs=again)) == []
    assert (sequence.output, tuple(sequence.prompt_logprobs)) == ([10], scored(0, 2))


def test_a_hole_in_a_prompts_log_probabilities_is_asked_for_once_and_filled() -> None:
    desk = Desk()
    sequence = desk.running(num_prompt_logprobs=0)
    late = replace(tokens(0), prompt_logprobs=PromptLogprobs(1, scored(1, 2)))
    assert desk.frame(2, late) == [Resend(OWNER, R, 0, 0)]
    assert desk.frame(3, late) == []
    assert desk.frame(4, replace(tokens(0), prompt_logprobs=PromptLogprobs(0, scored(0, 2)))) == []
    assert tuple(sequence.prompt_logprobs) == scored(0, 2)


def test_the_next_attempt_scores_a_prompt_that_was_not_scored_whole() -> None:
    desk = Desk()
    sequence = desk.running(num_prompt_logprobs=0)
    desk.frame(1, replace(tokens(0), prompt_logprobs=PromptLogprobs(0, scored(0, 1))))
    sequence.next_attempt(desk.now_s)
    whole = replace(tokens(0, attempt=1), prompt_logprobs=PromptLogprobs(0, scored(0, 2)))
    assert desk.frame(2, whole) == []
    assert tuple(sequence.prompt_logprobs) == scored(0, 2)


# --- silence ------------------------------------------------------------------------------------


def test_a_worker_that_says_nothing_of_a_sequence_is_asked() -> None:
    desk = Desk()
    desk.running()
    assert desk.ledger.tick(desk.now_s + QUIET_S / 2) == []
    desk.ledger.on_worker_beat(beat(), desk.now_s + QUIET_S)
    assert published(desk.ledger.tick(desk.now_s + QUIET_S)) == [resend(0)]
    desk.now_s += QUIET_S
    assert desk.frame(1, tokens(0)) == []  # it waits for its turn
    assert desk.ledger.tick(desk.now_s + QUIET_S / 2) == []


def test_a_router_that_says_nothing_of_a_sequence_gets_it_again() -> None:
    desk = Desk()
    sequence = desk.open()
    assert desk.ledger.tick(desk.now_s + QUIET_S) == []  # still being submitted
    desk.ledger.on_accepted(Accepted(R, 0, ROUTER), desk.now_s)
    assert desk.ledger.tick(desk.now_s + QUIET_S) == [Submission(sequence.first_submit, desk.now_s)]


def test_after_a_lost_connection_everything_is_asked_for() -> None:
    desk = Desk()
    desk.running("a")
    held = desk.open("b")
    desk.ledger.on_accepted(Accepted(RequestId("b"), 0, ROUTER), desk.now_s)
    desk.ledger.on_reconnected()
    asked = desk.ledger.tick(desk.now_s)
    assert asked == [
        Publish(subjects.worker(WORKER), resend(0, "a")),
        Submission(held.first_submit, desk.now_s),
    ]


# --- lost workers -------------------------------------------------------------------------------


def lose_by_new_life(desk: Desk) -> list[Act]:
    return desk.ledger.on_worker_beat(beat(life=Incarnation("life-2")), desk.now_s)


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


# --- cancels ------------------------------------------------------------------------------------


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
