"""Server-sent events (WHATWG HTML, section 9.2) to a client that may read slowly or leave."""

import asyncio
from collections.abc import Iterable
from typing import Final

from aiohttp import web

from gateway.http.errors import REQUEST_ID

DONE: Final = b"[DONE]"


class EventStream:
    """The response begins with the first write, so that until then an error can still be a status."""

    def __init__(self, request: web.Request, write_timeout_s: float) -> None:
        self._request = request
        self._write_timeout_s = write_timeout_s
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
        """One event each. Raises ConnectionError when the client left or reads too slowly."""
        await self._write(b"".join(b"data: %b\n\n" % payload for payload in payloads))

    async def keep_alive(self) -> None:
        """A comment, which clients ignore."""
        await self._write(b": waiting\n\n")

    async def _write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_s):
                if not self._response.prepared:
                    await self._response.prepare(self._request)
                await self._response.write(data)
        except TimeoutError:
            if (transport := self._request.transport) is not None:
                transport.abort()  # what it has not read it never will
            raise ConnectionResetError("the client reads too slowly") from None
