"""Tokens and ends as frames bring them, whatever of it is lost; and what is asked when nobody says anything."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.sequences.ledger import BEHIND_S, QUIET_S, Act, Publish, Submission
from gateway.sequences.sequence import Place
from shared import subjects
from shared.ids import RequestId
from shared.messages import Accepted, EndAck, Ended, Resend, SequenceTokens
from tests.unit.gateway.builders import LIFE, OWNER, ROUTER, WORKER, beat, frame, tokens
from tests.unit.gateway.sequences.desk import Desk, R, published, resend

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
