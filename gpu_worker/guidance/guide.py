"""What one sequence may still say."""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint32]  # [num_words]: bit i of word j is token 32 * j + i

_ALL: Final = np.uint32(0xFFFFFFFF)


class Matcher(Protocol):
    """llguidance's LLMatcher. An error stays."""

    def consume_token(self, token_id: int) -> bool: ...
    def is_stopped(self) -> bool: ...
    def get_error(self) -> str: ...


class SequenceGuide(Protocol):
    """As a sequence has it, wherever its matcher is."""

    failure: str  # why no token can follow; empty: one can
    is_complete: bool  # no token may follow

    @property
    def is_lost(self) -> bool:
        """Nobody knows any more what may follow."""

    def accept(self, token_id: int, *, is_stop: bool) -> bool:
        """Whether a token that was drawn belongs to the output. is_stop: it ends the sequence."""


class Guide:
    """One thread at a time calls it.

    A sequence ends where its grammar does, whether or not its model has an end token, and before `min_tokens` if need
    be: there is nothing that it could say. Where the grammar may end or go on, each of the sequence's stop tokens may
    come, so with `ignore_eos` it goes on for as long as it can.
    """

    def __init__(self, matcher: Matcher, num_ids: int, end_id: int) -> None:
        """num_ids: tokens that a mask tells of. end_id: the one by which it says that the grammar may end here."""
        self.matcher = matcher
        self.failure = matcher.get_error()
        self.is_complete = not self.failure and matcher.is_stopped()  # no token may follow
        self.num_ids = num_ids
        self.is_lost = False
        self._end_id = end_id

    def accept(self, token_id: int, *, is_stop: bool) -> bool:
        """Whether a token that was drawn belongs to the output. is_stop: it ends the sequence."""
        if self.failure or self.is_complete:
            return False
        if is_stop:
            return True
        if not self.matcher.consume_token(token_id):
            self.failure = self.matcher.get_error() or "a token does not match"
            return False
        self.is_complete = self.matcher.is_stopped()
        return True

    def settle(self, mask: Bits, stop_ids: Sequence[int], *, may_stop: bool) -> None:
        """Makes of the matcher's next mask what the sequence may draw from, in place; anything, where it has ended.

        may_stop: it has got its `min_tokens`.
        """
        may_end = _take(mask, self._end_id)
        for token_id in stop_ids:
            if token_id >= self.num_ids:
                continue
            if not may_stop:
                _take(mask, token_id)
            elif may_end:
                mask[token_id // 32] |= _bit(token_id)
        if self.num_ids % 32:
            mask[-1] &= _bit(self.num_ids) - np.uint32(1)  # nobody clears what is beyond
        if error := self.matcher.get_error():
            self.failure = error
        elif not mask.any():
            self.is_complete = may_end
            self.failure = "" if may_end else "no token can follow"
        if self.failure or self.is_complete:
            mask[:] = _ALL


def _bit(token_id: int) -> np.uint32:
    return np.uint32(1 << token_id % 32)


def _take(mask: Bits, token_id: int) -> bool:
    """Clears a bit -> whether it was set."""
    word, bit = token_id // 32, _bit(token_id)
    was_set = bool(mask[word] & bit)
    mask[word] &= ~bit
    return was_set
