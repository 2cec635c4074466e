"""What owners have still to hear: one frame per step and owner, and streams kept until their end is acknowledged."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from shared.ids import Incarnation, OwnerId, RequestId, WorkerId
from shared.messages import Ended, Frame, SequenceTokens

_MAX_FRAME_TOKENS = 50_000  # far below the bus's limit of a message at 5 bytes a token
_MAX_OWNERS = 1024


@dataclass(frozen=True, slots=True)
class _Stream:
    owner: OwnerId
    attempt: int
    output: tuple[int, ...]
    ended: Ended


class Outbox:
    """Plain bookkeeping; the engine publishes what `drain` yields."""

    def __init__(self, worker: WorkerId, incarnation: Incarnation, max_retained: int = 4096) -> None:
        self.num_frames = 0
        self._worker = worker
        self._incarnation = incarnation
        self._max_retained = max_retained
        self._pending: dict[OwnerId, list[SequenceTokens]] = defaultdict(list)
        self._retained: OrderedDict[RequestId, _Stream] = OrderedDict()  # ended, not acknowledged; oldest first
        self._last_frames: OrderedDict[OwnerId, int] = OrderedDict()  # least recently written first

    @property
    def last_frames(self) -> dict[OwnerId, int]:
        return dict(self._last_frames)

    def add(self, owner: OwnerId, tokens: SequenceTokens) -> None:
        self._pending[owner] += _pieces(tokens)

    def end(
        self, owner: OwnerId, request_id: RequestId, attempt: int, output: Sequence[int], num_new: int, ended: Ended
    ) -> None:
        """The last word on a sequence: its `num_new` newest tokens and why it ended."""
        first = len(output) - num_new
        self.add(owner, SequenceTokens(request_id, attempt, first, tuple(output[first:]), ended))
        self._retained[request_id] = _Stream(owner, attempt, tuple(output), ended)
        self._retained.move_to_end(request_id)
        while len(self._retained) > self._max_retained:
            self._retained.popitem(last=False)

    def acknowledge(self, owner: OwnerId, request_ids: Sequence[RequestId]) -> None:
        for request_id in request_ids:
            stream = self._retained.get(request_id)
            if stream is not None and stream.owner == owner:
                del self._retained[request_id]

    def resend_ended(self, owner: OwnerId, request_id: RequestId, attempt: int, first: int) -> bool:
        """Whether the stream is among the retained ones; if so, it goes out again from `first`."""
        stream = self._retained.get(request_id)
        if stream is None or stream.owner != owner or stream.attempt != attempt:
            return False
        self.add(owner, SequenceTokens(request_id, attempt, first, stream.output[first:], stream.ended))
        return True

    def forget_owner(self, owner: OwnerId) -> None:
        """It is gone: nothing is sent or kept. Its frame number stays, in case that it comes back."""
        self._pending.pop(owner, None)
        for request_id in [r for r, stream in self._retained.items() if stream.owner == owner]:
            del self._retained[request_id]

    def drain(self) -> Iterator[tuple[OwnerId, Frame]]:
        pending, self._pending = self._pending, defaultdict(list)
        for owner, entries in pending.items():
            for part in _split(entries):
                number = self._last_frames.pop(owner, 0) + 1
                self._last_frames[owner] = number
                self.num_frames += 1
                yield owner, Frame(self._worker, self._incarnation, number, tuple(part))
        while len(self._last_frames) > _MAX_OWNERS:
            self._last_frames.popitem(last=False)


def _pieces(entry: SequenceTokens) -> list[SequenceTokens]:
    """Each fits a frame; the last has the end."""
    num_tokens = len(entry.token_ids)
    if num_tokens <= _MAX_FRAME_TOKENS:
        return [entry]
    starts = range(0, num_tokens, _MAX_FRAME_TOKENS)
    return [
        msgspec.structs.replace(
            entry,
            first=entry.first + at,
            token_ids=entry.token_ids[at : at + _MAX_FRAME_TOKENS],
            ended=entry.ended if at == starts[-1] else None,
        )
        for at in starts
    ]


def _split(entries: list[SequenceTokens]) -> Iterator[list[SequenceTokens]]:
    part: list[SequenceTokens] = []
    num_tokens = 0
    for entry in entries:
        size = len(entry.token_ids) + 50  # ids and end, in tokens' worth of bytes
        if part and num_tokens + size > _MAX_FRAME_TOKENS:
            yield part
            part, num_tokens = [], 0
        part.append(entry)
        num_tokens += size
    yield part
