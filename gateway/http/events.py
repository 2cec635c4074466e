"""Server-sent events (WHATWG HTML, section 9.2) to a client that may read slowly or leave."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final, NamedTuple, NoReturn

from aiohttp import web
from aiohttp.http import StreamWriter

from gateway.http import errors
from gateway.http.connections import Connection
from gateway.http.errors import REQUEST_ID
from gateway.http.lag import Lag
from shared.errors import ErrorCode, RequestError

DONE: Final = b"[DONE]"
LAST_WORDS_S: Final = 5.0  # for whoever reads again too late, to see why it was ended
_TOO_SLOW: Final = RequestError(ErrorCode.CLIENT_TOO_SLOW, "The stream was read too slowly.")


class Event(NamedTuple):
    payload: bytes  # one line
    name: str = ""  # ASCII, one line; empty: the event has none


def framed(events: Iterable[Event]) -> bytes:
    return b"".join(
        (b"event: %b\n" % name.encode() if name else b"") + b"data: %b\n\n" % payload for payload, name in events
    )


def last_words(error: RequestError) -> list[Event]:
    """As OpenAI's streams end."""
    return [Event(errors.body_of(error)), Event(DONE)]


class EventStream:
    """The response begins with the first write, so that until then an error can still be a status.

    Writing waits only for a reader that left more unread than the transport takes (64 KiB), and sets no timer before.
    """

    def __init__(
        self,
        request: web.Request,
        write_timeout_s: float,
        last_words: Callable[[RequestError], list[Event]] = last_words,
    ) -> None:
        """last_words: to a reader that is too slow."""
        self._request = request
        self._write_timeout_s = write_timeout_s
        self._last_words = last_words
        self._lag = Lag()
        self._writer: StreamWriter | None = None
        self._response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
                "X-Request-Id": request[REQUEST_ID],
            }
        )

    @property
    def response(self) -> web.StreamResponse:
        return self._response

    @property
    def has_begun(self) -> bool:
        return self._response.prepared

    async def send(self, payloads: Iterable[bytes]) -> None:
        """One event each, without a name. Raises ConnectionError when the client left or reads too slowly."""
        await self._write(b"".join(b"data: %b\n\n" % payload for payload in payloads))

    async def send_events(self, events: Iterable[Event]) -> None:
        """As `send`."""
        await self._write(framed(events))

    async def keep_alive(self, status: str = "waiting") -> None:
        """A comment, which clients ignore."""
        await self._write(b": %b\n\n" % status.encode())

    async def _write(self, data: bytes) -> None:
        writer = self._writer or await self._begin()
        # What is unsent here was written in an earlier round of the loop, so the socket takes no more.
        if self._behind_s(writer) >= self._write_timeout_s:
            await self._give_up(writer)
        await writer.write(data, drain=False)
        if self._request.protocol.writing_paused:
            await self._catch_up(writer)

    async def _begin(self) -> StreamWriter:
        writer = await self._response.prepare(self._request)
        assert isinstance(writer, StreamWriter)
        self._writer = writer
        return writer

    async def _catch_up(self, writer: StreamWriter) -> None:
        """Until the socket has taken what was written."""
        draining = asyncio.ensure_future(writer.drain())
        while not draining.done():
            if (behind_s := self._behind_s(writer)) >= self._write_timeout_s:
                await self._give_up(writer)
            with contextlib.suppress(TimeoutError):  # some of it may be taken by then
                async with asyncio.timeout(self._write_timeout_s - behind_s):
                    await asyncio.shield(draining)  # aiohttp's waiter does not survive a cancellation

    async def _give_up(self, writer: StreamWriter) -> NoReturn:
        """Says why, where the socket still takes it, and closes. Raises ConnectionResetError."""
        await writer.write(framed(self._last_words(_TOO_SLOW)), drain=False)
        writer.set_eof()
        connection = self._request.protocol
        assert isinstance(connection, Connection)
        connection.close_within(LAST_WORDS_S)
        raise ConnectionResetError("the client reads too slowly")

    def _behind_s(self, writer: StreamWriter) -> float:
        return self._lag.look(writer.output_size, self._transport().get_write_buffer_size(), monotonic())

    def _transport(self) -> asyncio.Transport:
        """Raises ConnectionResetError."""
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client left")
        return transport
