"""What a guide makes of a matcher's answers; the matcher is a stand-in that answers as it is told."""

from collections.abc import Iterable

import numpy as np
import pytest

from gpu_worker.guidance.guide import Bits, Guide

NUM_IDS = 70
END_ID = 69  # by which the matcher says that the grammar may end
EOS_ID = 3


class StandIn:
    def __init__(self, *, stopped_after: int = 99, refuses: Iterable[int] = (), error: str = "") -> None:
        self.consumed: list[int] = []
        self._stopped_after = stopped_after
        self._refuses = frozenset(refuses)
        self.error = error

    def consume_token(self, token_id: int) -> bool:
        self.consumed.append(token_id)
        if token_id in self._refuses:
            self.error = "no such token"
        return not self.error

    def is_stopped(self) -> bool:
        return bool(self.error) or len(self.consumed) >= self._stopped_after

    def get_error(self) -> str:
        return self.error


def guide(**matcher: object) -> tuple[Guide, StandIn]:
    stand_in = StandIn(**matcher)  # type: ignore[arg-type]
    return Guide(stand_in, NUM_IDS, END_ID), stand_in


def bits(token_ids: Iterable[int]) -> Bits:
    mask = np.zeros(3, np.uint32)
    for token_id in token_ids:
        mask[token_id // 32] |= np.uint32(1 << token_id % 32)
    return mask


def ids(mask: Bits) -> set[int]:
    return {32 * j + i for j, word in enumerate(mask.tolist()) for i in range(32) if word >> i & 1}


def settled(
    allowed: Iterable[int], stop_ids: Iterable[int] = (EOS_ID,), *, may_stop: bool = True, error: str = ""
) -> tuple[Guide, set[int]]:
    one, stand_in = guide()
    stand_in.error = error
    mask = bits(allowed)
    one.settle(mask, tuple(stop_ids), may_stop=may_stop)
    return one, ids(mask)


def test_tokens_are_consumed_until_the_grammar_is_complete() -> None:
    one, stand_in = guide(stopped_after=2)
    assert one.accept(5, is_stop=False)
    assert not one.is_complete
    assert one.accept(6, is_stop=False)
    assert one.is_complete
    assert not one.accept(7, is_stop=False)
    assert stand_in.consumed == [5, 6]


def test_a_stop_token_ends_the_sequence_and_is_not_the_grammars() -> None:
    one, stand_in = guide()
    assert one.accept(EOS_ID, is_stop=True)
    assert stand_in.consumed == []


def test_a_token_that_does_not_match_is_a_failure_for_ever() -> None:
    one, _ = guide(refuses=[8])
    assert not one.accept(8, is_stop=False)
    assert one.failure == "no such token"
    assert not one.is_complete
    assert not one.accept(5, is_stop=True)


def test_a_matcher_that_begins_stopped_or_in_error() -> None:
    assert guide(stopped_after=0)[0].is_complete
    failed, _ = guide(error="too complex")
    assert (failed.failure, failed.is_complete) == ("too complex", False)


@pytest.mark.parametrize(
    ("allowed", "stop_ids", "may_stop", "expected"),
    [
        ([5, 64], [EOS_ID], True, {5, 64}),
        ([5, END_ID], [EOS_ID, 40], True, {5, EOS_ID, 40}),  # it may end here
        ([5, END_ID], [], True, {5}),  # with ignore_eos it goes on
        ([5, END_ID], [EOS_ID], False, {5}),  # before min_tokens, too
        ([5, 40], [40], True, {5, 40}),  # a stop token that the grammar has anyway
        ([5, 40], [40], False, {5}),
        ([5, END_ID], [1000], True, {5}),  # no token of this vocabulary
        ([5, 70, 95], [EOS_ID], True, {5}),  # what lies beyond the last token
    ],
)
def test_what_may_come_next(allowed: list[int], stop_ids: list[int], may_stop: bool, expected: set[int]) -> None:
    one, may_come = settled(allowed, stop_ids, may_stop=may_stop)
    assert may_come == expected
    assert not one.is_complete
    assert not one.failure


@pytest.mark.parametrize(("stop_ids", "may_stop"), [([], True), ([EOS_ID], False)])
def test_where_only_the_end_is_left_and_no_end_token_may_come_it_is_complete(
    stop_ids: list[int], may_stop: bool
) -> None:
    one, may_come = settled([END_ID], stop_ids, may_stop=may_stop)
    assert one.is_complete
    assert not one.failure
    assert may_come  # something is drawn,
    assert not one.accept(5, is_stop=False)  # and is not part of the output


def test_where_nothing_is_left_it_has_failed() -> None:
    one, may_come = settled([])
    assert (one.failure, one.is_complete) == ("no token can follow", False)
    assert may_come
    one, _ = settled([40], [40], may_stop=False)
    assert one.failure


def test_an_error_while_the_mask_was_made_is_a_failure() -> None:
    one, may_come = settled([END_ID], error="too many items")
    assert (one.failure, one.is_complete) == ("too many items", False)
    assert may_come
