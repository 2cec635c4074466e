"""A thin client for internal services: text or token ids in, pieces out, over the bus. Needs no model files.

async with KottosClient(BusConfig("nats://host:4222", "client", "secret")) as client:
    async for piece in client.generate("smollm2", text="Once upon", params=GenerationParams(max_tokens=32)):
        print(piece.text, piece.token_ids)
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Final, Self

from shared import subjects
from shared.bus import Bus, NatsBus
from shared.client_buffers import Call, Event, EventBuffer
from shared.config import BusConfig
from shared.errors import BusError, BusUnavailable, ErrorCode, NoResponders, RequestError
from shared.ids import CallId, ClientId, ModelName, OwnerId, new_id
from shared.messages import (
    AnyMessage,
    CancelCall,
    ChatMessage,
    ChatOptions,
    ClientBeat,
    Generate,
    GenerationParams,
    OwnerBeat,
    Piece,
)

log = logging.getLogger(__name__)

MAX_CALLS: Final = 1024
MAX_LEAVING: Final = 4 * MAX_CALLS  # calls whose cancel is still to be sent
BEAT_S: Final = 1.0
_DEFAULTS: Final = GenerationParams()
_CHAT_DEFAULTS: Final = ChatOptions()


class KottosClient:
    """Calls the gateways' bus front. While calls run it beats, and listens to the beats of those who serve them."""

    def __init__(self, config: BusConfig, *, bus: Bus | None = None, accept_timeout_s: float = 10.0) -> None:
        """`bus`: instead of one made from the configuration; the client starts and closes it."""
        self.client_id = ClientId(new_id("client"))
        self._bus = bus if bus is not None else NatsBus(config, self.client_id)
        self._accept_timeout_s = accept_timeout_s
        self._calls: dict[CallId, Call] = {}
        self._leaving: dict[CallId, OwnerId] = {}
        self._events: set[EventBuffer] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Raises BusUnavailable."""
        await self._bus.start()
        self._bus.on_change(self._on_connection)
        await self._bus.subscribe(subjects.client(self.client_id), self._on_piece)
        await self._bus.subscribe(subjects.BEAT_OWNER, self._on_gateway_beat)
        self._tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._cancel_calls())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancels the calls that still run; their loops end with BusUnavailable."""
        for call_id, call in self._calls.items():
            call.fail(BusUnavailable("the client is closed"))
            if call.gateway is not None:
                self._leaving[call_id] = call.gateway
        for buffer in self._events:
            buffer.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        with contextlib.suppress(BusError):
            await self._send_cancels()
        await self._bus.close()

    async def generate(
        self,
        model: str,
        *,
        text: str | None = None,
        token_ids: Sequence[int] | None = None,
        chat: Sequence[ChatMessage] | None = None,
        params: GenerationParams = _DEFAULTS,
        chat_options: ChatOptions = _CHAT_DEFAULTS,
        traceparent: str = "",
    ) -> AsyncGenerator[Piece, None]:
        """Give one of text, token_ids, chat. Leaving the loop cancels the call; the last piece of each
        choice has a finish_reason.

        traceparent: the span that the call is part of, as W3C Trace Context writes it; empty: of none.

        Raises RequestError (refused or ended by the gateway, or no gateway there), GatewayLost, PiecesLost,
        ReaderTooSlow, BusUnavailable (also when the connection is lost meanwhile), RequestTimeout, MessageTooLarge.
        """
        if len(self._calls) >= MAX_CALLS:
            raise RequestError(ErrorCode.OVERLOADED, f"{MAX_CALLS} calls of this client run already")
        call_id = CallId(new_id("call"))
        request = Generate(
            call_id=call_id,
            client=self.client_id,
            model=ModelName(model),
            params=params,
            text=text,
            token_ids=tuple(token_ids) if token_ids is not None else None,
            chat=tuple(chat) if chat is not None else None,
            chat_options=chat_options,
            traceparent=traceparent,
        )
        call = self._calls[call_id] = Call(1 if params.n is None else params.n)
        try:
            call.accept(await self._ask(request))
            while not call.ended:
                piece = await call.next_piece()
                if not piece.is_empty:
                    yield piece
        finally:
            del self._calls[call_id]
            if call.gateway is not None and not call.ended:
                self._cancel(call_id, call.gateway)

    async def events(self, subject: str = subjects.EVENTS) -> AsyncGenerator[Event, None]:
        """What happens, from the first step of the loop on, until the client closes. `subject`: one kind, or all."""
        buffer = EventBuffer()
        self._events.add(buffer)
        subscription = await self._bus.subscribe(subject, buffer.push)
        try:
            while (event := await buffer.next_event()) is not None:
                yield event
        finally:
            self._events.discard(buffer)
            await subscription.unsubscribe()

    async def _ask(self, request: Generate) -> Piece:
        try:
            reply = await self._bus.request(subjects.CALL, request, self._accept_timeout_s)
        except NoResponders:
            raise RequestError(ErrorCode.UNAVAILABLE, "no gateway is running", retry_after_s=1.0) from None
        if not isinstance(reply, Piece):
            raise BusError(f"a gateway answered with {type(reply).__name__} instead of Piece")
        return reply

    def _on_piece(self, message: AnyMessage) -> None:
        if not isinstance(message, Piece):
            return
        call = self._calls.get(message.call_id)
        if call is not None:
            call.push(message)
        elif message.finish_reason is None and message.error is None:
            self._cancel(message.call_id, message.gateway)  # its loop left before the gateway answered

    def _on_gateway_beat(self, message: AnyMessage) -> None:
        if isinstance(message, OwnerBeat):
            for call in self._calls.values():
                call.hear(message.owner)

    def _on_connection(self, connected: bool) -> None:
        if not connected:  # a last piece that is lost now would never be missed
            for call in self._calls.values():
                call.fail(BusUnavailable("the connection to the bus was lost during the call"))

    def _cancel(self, call_id: CallId, gateway: OwnerId) -> None:
        if len(self._leaving) < MAX_LEAVING:  # beyond, the next stray piece tries again
            self._leaving[call_id] = gateway
            self._wake.set()

    async def _beat(self) -> None:
        while True:
            for call in self._calls.values():
                call.tick()
            if self._calls:
                try:
                    await self._bus.publish(subjects.BEAT_CLIENT, ClientBeat(self.client_id))
                except BusError as error:
                    log.warning("%s could not beat: %s", self.client_id, error)
            await asyncio.sleep(BEAT_S)

    async def _cancel_calls(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._send_cancels()
            except BusError as error:
                log.warning("%s could not cancel a call: %s", self.client_id, error)

    async def _send_cancels(self) -> None:
        while self._leaving:
            call_id, gateway = self._leaving.popitem()
            await self._bus.publish(subjects.gateway(gateway), CancelCall(call_id, self.client_id))
