"""Text processes behind one bounded queue. One that exceeds its time is killed and replaced; only its job fails."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.text.jobs import (
    Constrain,
    Constrained,
    Decode,
    Decoded,
    Encode,
    Encoded,
    Failed,
    Job,
    Render,
    Rendered,
    Result,
    Spell,
    Spelled,
    TooLong,
)
from gateway.text.process import ProcessEnded, TextProcess
from shared import log
from shared.errors import ErrorCode, RequestError
from shared.messages import ChatMessage, ChatOptions
from shared.structured import GrammarKind

_log = logging.getLogger(__name__)

NUM_PROCESSES: Final = 2  # so that a slow template or a long prompt leaves a road for others
_LOAD_TIMEOUT_S: Final = 60.0
_ENCODE_TIMEOUT_S: Final = 30.0
_GRAMMAR_TIMEOUT_S: Final = 5.0  # its size and the effort are limited besides
_RESTART_PAUSE_S: Final = 1.0  # after one that ended by itself
_DEFAULTS: Final = ChatOptions()


@dataclass(frozen=True, slots=True)
class _Ticket:
    job: Job
    timeout_s: float
    done: asyncio.Future[Result]
    request_id: str  # that it is for, if it is for one


class TextPool:
    def __init__(self, template_timeout_s: float, max_waiting: int, num_processes: int = NUM_PROCESSES) -> None:
        self._template_timeout_s = template_timeout_s
        self._num_processes = num_processes
        self._queue: asyncio.Queue[_Ticket] = asyncio.Queue(max_waiting)

    @property
    def num_waiting(self) -> int:
        """Jobs that no process has begun with."""
        return self._queue.qsize()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            lanes = [tasks.create_task(self._run_lane()) for _ in range(self._num_processes)]
            try:
                yield
            finally:
                for lane in lanes:
                    lane.cancel()

    async def render(self, folder: Path, messages: tuple[ChatMessage, ...], options: ChatOptions = _DEFAULTS) -> str:
        """The chat as the model's template writes it, up to where the answer begins. Raises RequestError."""
        job = Render(str(folder), messages, options)
        result = await self._perform(job, self._template_timeout_s, "messages")
        assert isinstance(result, Rendered)
        return result.text

    async def encode(
        self, folder: Path, text: str, *, add_special_tokens: bool, max_tokens: int, with_tokens: bool = False
    ) -> Encoded | TooLong:
        """Token ids, or how many there would be if more than `max_tokens`. Raises RequestError."""
        job = Encode(str(folder), text, add_special_tokens, max_tokens, with_tokens)
        result = await self._perform(job, _ENCODE_TIMEOUT_S, "prompt")
        assert isinstance(result, Encoded | TooLong)
        return result

    async def decode(self, folder: Path, token_ids: tuple[int, ...]) -> str:
        """The text, special tokens and all. Raises RequestError."""
        result = await self._perform(Decode(str(folder), token_ids), _ENCODE_TIMEOUT_S, "tokens")
        assert isinstance(result, Decoded)
        return result.text

    async def spell(self, folder: Path) -> Spelled:
        """The model's tokens. Raises RequestError."""
        result = await self._perform(Spell(str(folder)), _ENCODE_TIMEOUT_S, "model")
        assert isinstance(result, Spelled)
        return result

    async def constrain(self, folder: Path, kind: GrammarKind, text: str, param: str) -> str:
        """The grammar as workers take it. Raises RequestError naming `param`."""
        result = await self._perform(Constrain(str(folder), kind, text), _GRAMMAR_TIMEOUT_S, param)
        assert isinstance(result, Constrained)
        return result.grammar

    async def warm(self, folder: Path) -> None:
        """Makes idle processes read the model's tokenizer, which can take seconds, before somebody waits for it.

        One after the other: what steps compute on keeps the other cores. The one that idles longest gets the next job.
        """
        for _ in range(self._num_processes):
            try:
                await self._perform(Encode(str(folder), "", False, 1), _ENCODE_TIMEOUT_S, "prompt")
            except RequestError as error:
                _log.warning("a text process is not ready for %s: %s", folder.name, error.message)

    async def _perform(self, job: Job, timeout_s: float, param: str) -> Result:
        ticket = _Ticket(job, timeout_s, asyncio.get_running_loop().create_future(), log.subject())
        try:
            self._queue.put_nowait(ticket)
        except asyncio.QueueFull:
            raise RequestError(
                ErrorCode.OVERLOADED, "Too many prompts are waiting to be tokenized.", retry_after_s=1.0
            ) from None
        result = await ticket.done  # cancelled with its waiter; a lane then skips or drops it
        if isinstance(result, Failed):
            raise RequestError(ErrorCode.INVALID_REQUEST, result.message, param=param)
        return result

    async def _run_lane(self) -> None:
        while True:
            try:
                async with TextProcess() as process:
                    await self._serve(process)
            except OSError as error:
                _log.error("can't start a text process: %s", error.strerror)
                await asyncio.sleep(_RESTART_PAUSE_S)

    async def _serve(self, process: TextProcess) -> None:
        """Returns when the process has to be replaced."""
        while True:
            ticket = await self._queue.get()
            if ticket.done.done():
                continue
            try:
                result = await process.perform(ticket.job, _LOAD_TIMEOUT_S, ticket.timeout_s)
            except TimeoutError:
                with log.about(ticket.request_id):
                    _log.warning("killing a text process: a %s took too long", type(ticket.job).__name__)
                _settle(ticket, Failed(f"{_what(ticket.job)} took more than {ticket.timeout_s:g} s."))
                return
            except ProcessEnded:
                with log.about(ticket.request_id):
                    _log.error("a text process ended by itself at a %s", type(ticket.job).__name__)
                if isinstance(ticket.job, Constrain):  # out of memory or stack
                    _settle(ticket, Failed("The grammar is too complex."))
                elif not ticket.done.done():
                    ticket.done.set_exception(RequestError(ErrorCode.INTERNAL, "Tokenization failed."))
                await asyncio.sleep(_RESTART_PAUSE_S)
                return
            _settle(ticket, result)


def _what(job: Job) -> str:
    if isinstance(job, Constrain):
        return "The grammar"
    return "The model's chat template" if isinstance(job, Render) else "The model's tokenizer"


def _settle(ticket: _Ticket, result: Result) -> None:
    if not ticket.done.done():
        ticket.done.set_result(result)
