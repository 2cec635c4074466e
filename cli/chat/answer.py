"""One streamed answer of a chat, and how fast it came."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from cli.exit_codes import Answered
from cli.gateway_client import ErrorDetail
from cli.sse import ServerEvent

_DONE: Final = b"[DONE]"
_OK: Final = 200


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()
    finish_reason: str | None = None


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: ErrorDetail | None = None


_decoder: Final = msgspec.json.Decoder(_Chunk)


class Show(Protocol):
    """Who watches an answer come."""

    def waiting(self, text: str) -> None:
        """Nothing is here yet; what the gateway says of it."""

    def reasoning(self, text: str) -> None: ...

    def content(self, text: str) -> None: ...


@dataclass
class Answer:
    """As far as it has come: of one that was stopped, too."""

    content: str = ""
    reasoning: str = ""
    finish_reason: str | None = None  # None: it was stopped
    usage: Usage | None = None
    ttft_s: float | None = None
    last_at_s: float = 0.0  # after the request, when its last piece was read

    @property
    def tokens_per_s(self) -> float | None:
        """Without the first token."""
        if self.usage is None or self.ttft_s is None or self.last_at_s <= self.ttft_s:
            return None
        return (self.usage.completion_tokens - 1) / (self.last_at_s - self.ttft_s)


async def read_answer(
    events: AsyncIterator[ServerEvent],
    answer: Answer,
    show: Show,
    asked_at_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Adds to the answer what comes. Raises Answered for an error, and for a stream without an end."""
    async for event in events:
        if event.comment:
            show.waiting(event.comment)
        elif event.data == _DONE:
            return
        elif event.data:
            _take(event.data, answer, show, clock() - asked_at_s)
    raise Answered(_OK, "", "the answer breaks off")


def _take(data: bytes, answer: Answer, show: Show, age_s: float) -> None:
    try:
        chunk = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise Answered(_OK, "", f"this is no chunk of a chat: {error}") from None
    if chunk.error is not None:
        raise Answered(_OK, chunk.error.code or "", chunk.error.message)
    answer.usage = chunk.usage or answer.usage
    for choice in chunk.choices:
        delta = choice.delta
        if delta.content or delta.reasoning or choice.finish_reason:
            answer.ttft_s = age_s if answer.ttft_s is None else answer.ttft_s
            answer.last_at_s = age_s
        if delta.reasoning:
            answer.reasoning += delta.reasoning
            show.reasoning(delta.reasoning)
        if delta.content:
            answer.content += delta.content
            show.content(delta.content)
        answer.finish_reason = choice.finish_reason or answer.finish_reason
