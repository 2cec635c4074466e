from collections.abc import Iterable

import pytest

from gpu_worker import outbox as outbox_module
from gpu_worker.outbox import Outbox, Stream
from shared.ids import OwnerId, RequestId
from shared.messages import Ended, PromptLogprobs, Resend, TokenLogprobs, encode
from tests.unit.gpu_worker.stand_ins import LIFE, OTHER, OWNER, WORKER, drain, tokens

R = RequestId("r")
STOP = Ended("stop")


def stream(owner: OwnerId, request_id: RequestId, attempt: int, output: list[int]) -> Stream:
    """Which has ended, and nobody asked for log-probabilities."""
    return Stream(owner, request_id, attempt, tuple(output), STOP)


def scored(token_ids: Iterable[int], num_top: int = 0) -> tuple[TokenLogprobs, ...]:
    top = range(num_top)
    return tuple(TokenLogprobs(i, -i / 10, tuple(top), tuple(-float(k) for k in top)) for i in token_ids)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(WORKER, LIFE, max_retained=3)


def test_one_frame_per_owner_holds_all_that_was_added_since_the_last(outbox: Outbox) -> None:
    outbox.add(OWNER, tokens("a", 0, [1]))
    outbox.add(OTHER, tokens("b", 0, [2]))
    outbox.add(OWNER, tokens("c", 4, [3]))
    frames = dict(outbox.drain())
    assert frames.keys() == {OWNER, OTHER}
    assert frames[OWNER].sequences == (tokens("a", 0, [1]), tokens("c", 4, [3]))
    assert (frames[OWNER].worker, frames[OWNER].incarnation) == (WORKER, LIFE)
    assert list(outbox.drain()) == []


def test_frames_are_numbered_from_1_per_owner(outbox: Outbox) -> None:
    numbers = []
    for owners in ([OWNER], [OWNER, OTHER], [OTHER], [OWNER]):
        for owner in owners:
            outbox.add(owner, tokens("r", 0, [1]))
        numbers += [(owner, frame.number) for owner, frame in outbox.drain()]
    assert numbers == [(OWNER, 1), (OWNER, 2), (OTHER, 1), (OTHER, 2), (OWNER, 3)]
    assert outbox.last_frames == {OWNER: 3, OTHER: 2}


def test_an_end_says_the_newest_tokens_only(outbox: Outbox) -> None:
    outbox.end(stream(OWNER, R, 2, [5, 6, 7]), num_new=1)
    (entry,) = drain(outbox)
    assert (entry.attempt, entry.first, entry.token_ids, entry.ended) == (2, 2, (7,), STOP)
    outbox.end(stream(OWNER, R, 2, [5, 6, 7]), num_new=0)
    (entry,) = drain(outbox)
    assert (entry.first, entry.token_ids, entry.ended) == (3, (), STOP)


def test_an_end_can_be_asked_for_until_it_is_acknowledged(outbox: Outbox) -> None:
    outbox.end(stream(OWNER, R, 0, [5, 6, 7]), num_new=1)
    drain(outbox)
    for _ in range(2):
        assert outbox.resend_ended(Resend(OWNER, R, 0, 1))
        (entry,) = drain(outbox)
        assert (entry.first, entry.token_ids, entry.ended) == (1, (6, 7), STOP)
    outbox.acknowledge(OWNER, [R, RequestId("unknown")])
    assert not outbox.resend_ended(Resend(OWNER, R, 0, 1))
    assert drain(outbox) == []


def test_only_the_owner_and_its_attempt_reach_an_end(outbox: Outbox) -> None:
    outbox.end(stream(OWNER, R, 1, [5]), num_new=1)
    drain(outbox)
    outbox.acknowledge(OTHER, [R])
    assert not outbox.resend_ended(Resend(OTHER, R, 1, 0))
    assert not outbox.resend_ended(Resend(OWNER, R, 0, 0))
    assert outbox.resend_ended(Resend(OWNER, R, 1, 0))


def test_ends_that_nobody_acknowledges_are_bounded_and_the_oldest_goes(outbox: Outbox) -> None:
    for name in ("a", "b", "c", "a", "d"):  # "a" ended again, as another attempt
        outbox.end(stream(OWNER, RequestId(name), 0, [1]), num_new=1)
    drain(outbox)
    kept = [name for name in "abcd" if outbox.resend_ended(Resend(OWNER, RequestId(name), 0, 0))]
    assert kept == ["a", "c", "d"]


def test_an_owner_that_is_gone_leaves_nothing_but_its_number(outbox: Outbox) -> None:
    outbox.end(stream(OWNER, R, 0, [1]), num_new=1)
    drain(outbox)
    outbox.add(OWNER, tokens("b", 0, [1]))
    outbox.add(OTHER, tokens("c", 0, [2]))
    outbox.forget_owner(OWNER)
    assert [owner for owner, _ in outbox.drain()] == [OTHER]
    assert not outbox.resend_ended(Resend(OWNER, R, 0, 0))
    outbox.add(OWNER, tokens("d", 0, [1]))
    assert [frame.number for _, frame in outbox.drain()] == [2]


def test_the_table_of_numbers_is_bounded(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_MAX_OWNERS", 2)
    for owner in ("o1", "o2", "o1", "o3"):
        outbox.add(OwnerId(owner), tokens("r", 0, [1]))
        list(outbox.drain())
    assert outbox.last_frames == {"o1": 2, "o3": 1}


def test_many_sequences_are_split_over_frames(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_MAX_FRAME_TOKENS", 200)
    entries = [tokens(f"r{i}", 0, range(30)) for i in range(7)]
    for entry in entries:
        outbox.add(OWNER, entry)
    frames = [frame for _, frame in outbox.drain()]
    assert [frame.number for frame in frames] == [1, 2, 3, 4]
    assert [entry for frame in frames for entry in frame.sequences] == entries


def test_a_stream_longer_than_a_frame_is_sent_in_pieces(outbox: Outbox) -> None:
    output = list(range(100_000, 400_000))
    outbox.end(stream(OWNER, R, 0, output), num_new=0)
    drain(outbox)
    assert outbox.resend_ended(Resend(OWNER, R, 0, 10))
    frames = [frame for _, frame in outbox.drain()]
    assert all(len(encode(frame)) < 1 << 20 for frame in frames)
    pieces = [entry for frame in frames for entry in frame.sequences]
    assert [token for piece in pieces for token in piece.token_ids] == output[10:]
    assert all(piece.first == 10 + at * 50_000 for at, piece in enumerate(pieces))
    assert [piece.ended for piece in pieces] == [None] * (len(pieces) - 1) + [STOP]


def test_logprobs_are_said_again_with_their_tokens(outbox: Outbox) -> None:
    ended = Stream(OWNER, R, 0, (5, 6, 7), STOP, scored([5, 6, 7]), scored([1, 2, 3, 4]))
    outbox.end(ended, num_new=1)
    (entry,) = drain(outbox)
    assert (entry.token_ids, entry.logprobs, entry.prompt_logprobs) == ((7,), scored([7]), None)
    assert outbox.resend_ended(Resend(OWNER, R, 0, 1, first_prompt_logprob=3))
    (entry,) = drain(outbox)
    assert (entry.token_ids, entry.logprobs) == ((6, 7), scored([6, 7]))
    assert entry.prompt_logprobs == PromptLogprobs(3, scored([4]))


@pytest.mark.parametrize("num_top", [0, 1, 20])
def test_logprobs_are_sent_in_pieces_that_fit(outbox: Outbox, num_top: int) -> None:
    num = 60_000 // (1 + num_top)
    prompt, output = scored(range(num), num_top), list(range(100_000, 100_000 + num))
    outbox.end(Stream(OWNER, R, 0, tuple(output), STOP, scored(output, num_top), prompt), num_new=0)
    drain(outbox)
    assert outbox.resend_ended(Resend(OWNER, R, 0, 10, first_prompt_logprob=5))
    frames = [frame for _, frame in outbox.drain()]
    assert all(len(encode(frame)) < 1 << 20 for frame in frames)
    pieces = [entry for frame in frames for entry in frame.sequences]
    said, first = list[TokenLogprobs](), 10
    for piece in pieces:
        if piece.prompt_logprobs is not None:
            assert (piece.prompt_logprobs.first, piece.token_ids) == (5 + len(said), ())
            said += piece.prompt_logprobs.tokens
        assert (piece.first, len(piece.logprobs)) == (first, len(piece.token_ids))
        first += len(piece.token_ids)
    assert tuple(said) == prompt[5:]
    assert [token for piece in pieces for token in piece.token_ids] == output[10:]
    assert [entry for piece in pieces for entry in piece.logprobs] == list(scored(output, num_top)[10:])
    assert [piece.ended for piece in pieces] == [None] * (len(pieces) - 1) + [STOP]
