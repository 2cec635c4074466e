"""The second front: internal services call over the bus, through the same pipeline. Pieces are the deltas."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

from gateway.output.choice import Delta
from gateway.output.generation import Generation
from gateway.pipeline import Pipeline
from gateway.request.call import Call
from gateway.request.params import invalid
from gateway.request.prompts import Chat, Prompt, Text, Tokens
from gateway.tenants.tenant import BUS
from gateway.tracing.attributes import describe
from gateway.tracing.request_spans import request_spans
from gateway.tracing.request_trace import CLIENT_LEFT, RequestTrace
from shared import log, subjects
from shared.bus import Bus
from shared.errors import BusError, ErrorCode, RequestError
from shared.ids import CallId, ClientId, OwnerId, new_id
from shared.messages import AnyMessage, CallError, CancelCall, ClientBeat, Generate, Message, Piece
from shared.spans import Value
from shared.tracing import Tracer

_log = logging.getLogger(__name__)

BEAT_S: Final = 1.0
MAX_MISSED_BEATS: Final = 5
_MAX_MESSAGE_CHARS: Final = 1000
_LAST_WORDS_S: Final = 1.0
_PIECE_LOGPROBS: Final = 512  # tokens of one piece, each beside up to 20 others

CallKey = tuple[ClientId, CallId]


class BusFront:
    def __init__(
        self,
        gateway_id: OwnerId,
        bus: Bus,
        pipeline: Pipeline,
        max_calls: int,
        clock: Callable[[], float],
        tracer: Tracer | None = None,
    ) -> None:
        self._gateway_id = gateway_id
        self._bus = bus
        self._pipeline = pipeline
        self._max_calls = max_calls
        self._clock = clock
        self._tracer = tracer
        self._calls: dict[CallKey, asyncio.Task[None]] = {}
        self._heard_at_s: dict[ClientId, float] = {}  # clients with calls
        self._tasks: asyncio.TaskGroup

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as self._tasks:
            subscriptions = [
                await self._bus.subscribe(subjects.CALL, self.on_generate, queue=subjects.CALL_GROUP),
                await self._bus.subscribe(subjects.gateway(self._gateway_id), self._on_message),
                await self._bus.subscribe(subjects.BEAT_CLIENT, self._on_message),
            ]
            watch = self._tasks.create_task(self._watch_clients())
            try:
                yield
            finally:
                for subscription in subscriptions:
                    await subscription.unsubscribe()
                if self._calls:  # the pipeline has ended them, and they are saying so
                    await asyncio.wait(self._calls.values(), timeout=_LAST_WORDS_S)
                for task in (watch, *self._calls.values()):
                    task.cancel()

    @property
    def num_calls(self) -> int:
        return len(self._calls)

    def on_generate(self, message: AnyMessage) -> Message | None:
        """The answer says whether the call begins; all else comes as pieces."""
        if not isinstance(message, Generate):
            return None
        try:
            self._accept(message)
        except RequestError as error:
            return self._failure(message.call_id, 0, error)
        return Piece(message.call_id, 0, self._gateway_id)

    def _accept(self, generate: Generate) -> None:
        """Raises RequestError."""
        key = (generate.client, generate.call_id)
        if key in self._calls:
            raise invalid("This call is running already.", "call_id")
        if len(self._calls) >= self._max_calls:
            raise RequestError(ErrorCode.OVERLOADED, "Too many calls are running.", retry_after_s=1.0)
        trace = self._begin_trace(generate)
        call = Call(new_id("call"), generate.model, (_prompt(generate),), generate.params, self._clock(), BUS, trace)
        self._heard_at_s[generate.client] = self._clock()
        with log.about(call.call_id):
            task = self._tasks.create_task(self._serve_traced(generate, call))
        self._calls[key] = task
        task.add_done_callback(lambda _: self._forget(key))

    def _forget(self, key: CallKey) -> None:
        del self._calls[key]
        if not any(client == key[0] for client, _ in self._calls):
            del self._heard_at_s[key[0]]

    def _on_message(self, message: AnyMessage) -> None:
        match message:
            case CancelCall(call_id, client):
                if task := self._calls.get((client, call_id)):
                    task.cancel()
            case ClientBeat(client):
                if client in self._heard_at_s:
                    self._heard_at_s[client] = self._clock()
            case _:
                _log.warning("unexpected %s on the gateway's subjects", type(message).__name__)

    async def _watch_clients(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self.cancel_deserted(self._clock())

    def cancel_deserted(self, now_s: float) -> None:
        """Ends the calls of clients that fell silent."""
        for (client, _), task in self._calls.items():
            if now_s - self._heard_at_s[client] > MAX_MISSED_BEATS * BEAT_S:
                task.cancel()

    def _begin_trace(self, generate: Generate) -> RequestTrace | None:
        if self._tracer is None or (root := self._tracer.root(generate.traceparent)) is None:
            return None
        attributes: dict[str, Value] = {"rpc.system": "nats", "kottos.client": generate.client}
        return RequestTrace(root, "generate", self._clock, self._clock(), attributes, self._tracer.keeps_content)

    async def _serve_traced(self, generate: Generate, call: Call) -> None:
        if (trace := call.trace) is None or self._tracer is None:
            return await self._serve(generate, call)
        describe(trace, call)
        try:
            await self._serve(generate, call)
        except asyncio.CancelledError:
            trace.error = CLIENT_LEFT
            raise
        finally:
            self._tracer.put(request_spans(self._tracer, trace))

    async def _serve(self, generate: Generate, call: Call) -> None:
        subject = subjects.client(generate.client)
        number = 0
        try:
            async with self._pipeline.generate(call) as generation:
                while not generation.is_done:
                    for delta in await generation.next():
                        for piece in self._pieces(generate.call_id, number, delta, generation):
                            await self._bus.publish(subject, piece)
                            number = piece.number
                        generation.written([delta])
        except RequestError as error:
            if call.trace is not None:
                call.trace.error = error.code.value
            await self._say_failure(subject, self._failure(generate.call_id, number + 1, error))
        except BusError as error:
            _log.warning("the call ended: %s", error)
        except Exception as error:
            _log.error("the call failed: %s", type(error).__name__)
            failure = RequestError(ErrorCode.INTERNAL, "The gateway failed on this call.")
            await self._say_failure(subject, self._failure(generate.call_id, number + 1, failure))

    def _pieces(self, call_id: CallId, last: int, delta: Delta, generation: Generation) -> Iterator[Piece]:
        """Each is far below the bus's limit. A prompt's log-probabilities come before anything else of its choice."""
        choice, numbers = generation.choices[delta.index], count(last + 1)
        if choice.num_output_tokens == len(delta.token_ids):
            for first in range(0, len(choice.prompt_logprobs), _PIECE_LOGPROBS):
                part = tuple(choice.prompt_logprobs[first : first + _PIECE_LOGPROBS])
                yield Piece(call_id, next(numbers), self._gateway_id, choice=delta.index, prompt_logprobs=part)
        logprobs = delta.logprobs
        while len(logprobs) > _PIECE_LOGPROBS:
            part, logprobs = logprobs[:_PIECE_LOGPROBS], logprobs[_PIECE_LOGPROBS:]
            yield Piece(call_id, next(numbers), self._gateway_id, choice=delta.index, logprobs=part)
        yield Piece(
            call_id,
            next(numbers),
            self._gateway_id,
            delta.text,
            delta.token_ids,
            delta.finish_reason,
            generation.num_prompt_tokens if delta.finish_reason else 0,
            generation.num_output_tokens if delta.finish_reason else 0,
            choice=delta.index,
            logprobs=logprobs,
            reasoning=delta.reasoning,
            tool_calls=delta.tool_calls,
        )

    async def _say_failure(self, subject: str, piece: Piece) -> None:
        try:
            await self._bus.publish(subject, piece)
        except BusError as error:
            _log.warning("a call's error was not sent: %s", error)

    def _failure(self, call_id: CallId, number: int, error: RequestError) -> Piece:
        said = CallError(error.code, error.message[:_MAX_MESSAGE_CHARS], error.retry_after_s)
        return Piece(call_id, number, self._gateway_id, error=said)


def _prompt(generate: Generate) -> Prompt:
    given: list[Prompt] = []
    if generate.text is not None:
        given.append(Text(generate.text))
    if generate.token_ids is not None:
        given.append(Tokens(generate.token_ids))
    if generate.chat is not None:
        given.append(Chat(generate.chat, generate.chat_options))
    if len(given) != 1:
        raise invalid("Exactly one of text, token_ids and chat must be given.")
    return given[0]
