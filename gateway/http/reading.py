"""Bodies of requests: there in time, within their limits, and JSON, before a handler runs.

A handler's own `request.read()` then finds the body at hand.
"""

import asyncio
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from gateway.request.params import invalid
from shared.config import GatewayConfig
from shared.errors import ErrorCode, RequestError

MAX_READING_BYTES: Final = 256 << 20  # of bodies that have not arrived whole; what has no length counts as the longest

# What a page of another origin may send without being asked, other types or none at all, is refused (Fetch standard,
# "CORS-safelisted request-header"). This type is no such one, and clients that don't care send it.
_ANY_BYTES: Final = "application/octet-stream"


class BodyReader:
    def __init__(self, config: GatewayConfig) -> None:
        self._max_body_bytes = config.max_body_bytes
        self._read_timeout_s = config.read_timeout_s
        self.num_reading_bytes = 0

    def middleware(self) -> Middleware:
        @web.middleware
        async def read(request: web.Request, handler: Handler) -> web.StreamResponse:
            is_wanted = request.match_info.http_exception is None
            if is_wanted and request.body_exists:
                await self.read(request)
            return await handler(request)

        return read

    async def read(self, request: web.Request) -> None:
        """Raises RequestError."""
        _check_type(request.headers.get("Content-Type", ""))
        num_bytes = self._max_body_bytes if request.content_length is None else request.content_length
        if num_bytes > self._max_body_bytes:
            raise RequestError(ErrorCode.BODY_TOO_LARGE, "The request body is too large.")
        try:
            if request.content.is_eof():  # it came with its headers
                await request.read()
            else:
                await self._read_in_time(request, num_bytes)
        except (web.RequestPayloadError, HttpProcessingError):
            raise invalid("The body is not encoded as its headers say.") from None

    async def _read_in_time(self, request: web.Request, num_bytes: int) -> None:
        if self.num_reading_bytes + num_bytes > MAX_READING_BYTES:
            raise RequestError(ErrorCode.OVERLOADED, "Too many bodies are on their way.", retry_after_s=1.0)
        self.num_reading_bytes += num_bytes
        try:
            async with asyncio.timeout(self._read_timeout_s):
                await request.read()
        except TimeoutError:
            message = f"The request body did not arrive within {self._read_timeout_s:g} s."
            raise RequestError(ErrorCode.CLIENT_TOO_SLOW, message) from None
        finally:
            self.num_reading_bytes -= num_bytes


def _check_type(content_type: str) -> None:
    """Raises RequestError."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in ("application/json", _ANY_BYTES) and not media_type.endswith("+json"):
        message = "The body must be JSON: send it with the header `Content-Type: application/json`."
        raise RequestError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message)
