"""Connections: how many there may be, how long they may be idle, and what is said to one too many.

A connection's descriptor is the scarce thing: it is taken from whoever brings no request in time, or does not read.
"""

import asyncio
import logging
import resource
import socket
from typing import Final, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from gateway.http import errors
from shared.config import GatewayConfig
from shared.errors import ErrorCode, RequestError

_log = logging.getLogger(__name__)

MAX_REFUSING: Final = 256  # connections that hear that they are too many; further ones are cut off
REFUSAL_S: Final = 1.0  # for such a one to say something and to take the answer
LINGER_S: Final = 2.0  # for reading on after an answer that did not wait for the request's end, or it may be lost
_SPARE_DESCRIPTORS: Final = 128  # for everything else: the bus, child processes, model folders
_UNSENT_BYTES: Final = 16 << 10  # that the kernel keeps beside what is under way; more stays with us, who count it
_TOO_MANY: Final = RequestError(ErrorCode.UNAVAILABLE, "Too many connections are open.", retry_after_s=1.0)
_NOT_HTTP: Final = RequestError(ErrorCode.INVALID_REQUEST, "This is no HTTP request.")
_TOO_LONG: Final = RequestError(ErrorCode.INVALID_REQUEST, "The request line or a header is too long.")


def set_options(listening: socket.socket, dead_after_s: float) -> None:
    """Accepted sockets inherit them. Whoever takes nothing for `dead_after_s` has left (tcp(7), TCP_USER_TIMEOUT)."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * dead_after_s))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)


def make_room(num_connections: int) -> int:
    """Raises this process's limit of descriptors as far as that is needed and allowed -> how many connections fit."""
    num_others = MAX_REFUSING + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = num_connections + num_others
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning(
            "gateway.max_connections: %d descriptors are allowed, so %d connections instead of %d (ulimit -n)",
            allowed, allowed - num_others, num_connections,
        )  # fmt: skip
    return max(1, allowed - num_others)


class Connections:
    """Makes the protocol of each connection that is accepted."""

    def __init__(self, server: web.Server, config: GatewayConfig, max_connections: int) -> None:
        self._server = server
        self._idle_timeout_s = config.idle_timeout_s
        self._max_connections = max_connections
        self.num_open = 0
        self.num_refusing = 0

    def __call__(self) -> asyncio.Protocol:
        if self.num_open >= self._max_connections:
            return _Refusal(self)
        return Connection(self, self._server, self._idle_timeout_s)


class Connection(web.RequestHandler):
    """aiohttp's, but what it refuses by itself has our body, and no log line has a client's bytes."""

    __slots__ = ("_connections", "_cut")

    def __init__(self, connections: Connections, server: web.Server, idle_timeout_s: float) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=idle_timeout_s,
            lingering_time=LINGER_S,
            access_log=None,  # type: ignore[arg-type]  # allowed, and not declared
        )
        self._connections = connections
        self._cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.num_open += 1
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.num_open -= 1
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)

    def close_within(self, seconds: float) -> None:
        """What is unsent may be read for so long."""
        if (transport := self.transport) is not None:
            transport.close()
            self._cut = asyncio.get_running_loop().call_later(seconds, transport.abort)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Of what never reached the routes."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer is out already")
        if status == 400:
            error = _TOO_LONG if isinstance(exc, LineTooLong) else _NOT_HTTP
        else:
            _log.error("a connection failed: %s", type(exc).__name__)
            error = errors.INTERNAL
        response = errors.response_of(error)
        response.force_close()
        return response

    def log_exception(self, *args: object, **kwargs: object) -> None:
        """The rest of a broken body, read after its answer, is nothing to tell."""
        error = kwargs.get("exc_info")
        if not isinstance(error, web.RequestPayloadError):
            _log.error("a connection failed: %s", type(error).__name__)


class _Refusal(asyncio.Protocol):
    """Answers the first bytes, as an answer to nothing would be lost, and closes."""

    _transport: asyncio.Transport
    _limit: asyncio.TimerHandle

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._connections.num_refusing += 1
        patience_s = REFUSAL_S if self._connections.num_refusing <= MAX_REFUSING else 0.0
        self._limit = asyncio.get_running_loop().call_later(patience_s, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(_REFUSAL)
            self._transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.num_refusing -= 1
        self._limit.cancel()


def _raw(error: RequestError) -> bytes:
    """The same response as a handler's, written by hand."""
    response, body = errors.response_of(error), errors.body_of(error)
    head = f"HTTP/1.1 {response.status} {response.reason}\r\nRetry-After: {response.headers['Retry-After']}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


_REFUSAL: Final = _raw(_TOO_MANY)
