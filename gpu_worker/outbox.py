"""What owners have still to hear: one frame per step and owner, and streams kept until their end is acknowledged."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from shared.ids import Incarnation, OwnerId, RequestId, WorkerId
from shared.messages import Ended, Frame, PromptLogprobs, Resend, SequenceTokens, TokenLogprobs

_MAX_FRAME_TOKENS = 50_000  # far below the bus's limit of a message at 5 bytes a token
_LOGPROB_TOKENS = 3  # what an id and its log-probability take, in tokens' worth of bytes
_MAX_OWNERS = 1024


@dataclass(frozen=True, slots=True)
class Stream:
    """All that an owner may ask for of one sequence."""

    owner: OwnerId
    request_id: RequestId
    attempt: int
    output: tuple[int, ...]
    ended: Ended | None = None
    logprobs: tuple[TokenLogprobs, ...] = ()  # one per token of the output, if they were asked for
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()

    def since(self, first: int, first_prompt_logprob: int, num_cached_tokens: int | None = None) -> SequenceTokens:
        prompt = self.prompt_logprobs[first_prompt_logprob:]
        return SequenceTokens(
            self.request_id,
            self.attempt,
            first,
            self.output[first:],
            self.ended,
            num_cached_tokens,
            self.logprobs[first:],
            PromptLogprobs(first_prompt_logprob, prompt) if prompt else None,
        )


class Outbox:
    """Plain bookkeeping; the engine publishes what `drain` yields."""

    def __init__(self, worker: WorkerId, incarnation: Incarnation, max_retained: int = 4096) -> None:
        self.num_frames = 0
        self._worker = worker
        self._incarnation = incarnation
        self._max_retained = max_retained
        self._pending: dict[OwnerId, list[SequenceTokens]] = defaultdict(list)
        self._retained: OrderedDict[RequestId, Stream] = OrderedDict()  # ended, not acknowledged; oldest first
        self._last_frames: OrderedDict[OwnerId, int] = OrderedDict()  # least recently written first

    @property
    def last_frames(self) -> dict[OwnerId, int]:
        return dict(self._last_frames)

    def add(self, owner: OwnerId, tokens: SequenceTokens) -> None:
        self._pending[owner] += _pieces(tokens)

    def end(self, stream: Stream, num_new: int) -> None:
        """The last word on a sequence: its `num_new` newest tokens and why it ended."""
        self.add(stream.owner, stream.since(len(stream.output) - num_new, len(stream.prompt_logprobs)))
        self._retained[stream.request_id] = stream
        self._retained.move_to_end(stream.request_id)
        while len(self._retained) > self._max_retained:
            self._retained.popitem(last=False)

    def acknowledge(self, owner: OwnerId, request_ids: Sequence[RequestId]) -> None:
        for request_id in request_ids:
            stream = self._retained.get(request_id)
            if stream is not None and stream.owner == owner:
                del self._retained[request_id]

    def resend_ended(self, asked: Resend) -> bool:
        """Whether the stream is among the retained ones; if so, it goes out again from where it is asked for."""
        stream = self._retained.get(asked.request_id)
        if stream is None or stream.owner != asked.owner or stream.attempt != asked.attempt:
            return False
        self.add(stream.owner, stream.since(asked.first, asked.first_prompt_logprob))
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


def _pieces(entry: SequenceTokens) -> Iterator[SequenceTokens]:
    """Each fits a frame. What is said of the prompt comes first, the end last."""
    if _size(entry) <= _MAX_FRAME_TOKENS:
        yield entry
        return
    bare = replace(entry, token_ids=(), logprobs=(), prompt_logprobs=None, ended=None)
    if entry.prompt_logprobs is not None:
        first, tokens = entry.prompt_logprobs.first, entry.prompt_logprobs.tokens
        for part in _slices(len(tokens), _logprob_size(tokens)):
            yield replace(bare, prompt_logprobs=PromptLogprobs(first + part.start, tokens[part]))
    num_tokens = len(entry.token_ids)
    for part in _slices(num_tokens, 1 + _logprob_size(entry.logprobs)):
        yield replace(
            bare,
            first=entry.first + part.start,
            token_ids=entry.token_ids[part],
            logprobs=entry.logprobs[part],
            ended=entry.ended if part.stop >= num_tokens else None,
        )


def _slices(num: int, size: int) -> Iterator[slice]:
    """Of `num` things of one size each; at least one slice, if only an empty one."""
    num_per_frame = max(1, _MAX_FRAME_TOKENS // size)
    return (slice(start, start + num_per_frame) for start in range(0, max(1, num), num_per_frame))


def _size(entry: SequenceTokens) -> int:
    """In tokens' worth of bytes."""
    prompt = entry.prompt_logprobs.tokens if entry.prompt_logprobs is not None else ()
    num_tokens = len(entry.token_ids)
    return num_tokens + len(entry.logprobs) * _logprob_size(entry.logprobs) + len(prompt) * _logprob_size(prompt)


def _logprob_size(logprobs: Sequence[TokenLogprobs]) -> int:
    """Of one entry; all name equally many tokens."""
    return _LOGPROB_TOKENS * (1 + len(logprobs[-1].top_ids)) if logprobs else 0


def _split(entries: list[SequenceTokens]) -> Iterator[list[SequenceTokens]]:
    part: list[SequenceTokens] = []
    num_tokens = 0
    for entry in entries:
        size = _size(entry) + 50  # ids and end, in tokens' worth of bytes
        if part and num_tokens + size > _MAX_FRAME_TOKENS:
            yield part
            part, num_tokens = [], 0
        part.append(entry)
        num_tokens += size
    yield part
