"""Asks a gateway over HTTP, as a client anywhere would: whole answers and streams of events."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
import msgspec

from cli.address import Address, find_address
from cli.exit_codes import Answered, Unreachable
from cli.sse import EventReader, ServerEvent
from shared.config import API_KEY_VARIABLE

T = TypeVar("T")

_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 30.0
_SILENCE_S: Final = 120.0  # of a stream: a gateway says something far more often
_OK: Final = 400  # statuses below it
_UNAUTHORIZED: Final = 401


class ErrorDetail(msgspec.Struct, frozen=True):
    message: str = ""
    code: str | None = None


class _ErrorBody(msgspec.Struct, frozen=True):
    error: ErrorDetail


class GatewayClient:
    """One connection per request, as a person thinks for long between two of them; a load keeps its connections."""

    def __init__(self, address: Address, *, keeps_connections: bool = False) -> None:
        self.url = address.url
        self._key = address.api_key
        self._keeps_connections = keeps_connections
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=not self._keeps_connections),
            headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def ask(self, method: str, path: str, kind: type[T], body: object = None) -> T:
        """The answer, decoded. Raises Unreachable, Answered."""
        limits = aiohttp.ClientTimeout(total=_ANSWER_S, sock_connect=_CONNECT_S)
        async with self._request(method, path, body, limits) as response:
            data = await response.read()
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise Answered(response.status, "", f"{self.url}{path} gives no answer of a gateway: {error}") from None

    @asynccontextmanager
    async def stream(self, method: str, path: str, body: object = None) -> AsyncIterator[AsyncIterator[ServerEvent]]:
        """The events of an answer; leaving the block ends it. Raises Unreachable, Answered."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
        async with self._request(method, path, body, limits) as response:
            yield _events(response)

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: object, limits: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A good answer. Whatever breaks while it is read counts as well."""
        assert self._session is not None
        options: dict[str, Any] = {"timeout": limits, "allow_redirects": False}
        if body is not None:
            options |= {"data": msgspec.json.encode(body), "headers": {"Content-Type": "application/json"}}
        try:
            async with self._session.request(method, self.url + path, **options) as response:
                if response.status >= _OK:
                    raise _answered(response, await response.read())
                yield response
        except TimeoutError:
            raise Unreachable(f"{self.url} does not answer in time") from None
        except aiohttp.ClientConnectionError as error:
            raise Unreachable(f"{self.url} can't be reached: {_reason(error)}") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise Unreachable(f"{self.url} breaks off: {_reason(error)}") from None


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[ServerEvent]:
    reader = EventReader()
    async for received in response.content.iter_any():
        for event in reader.feed(received):
            yield event


def _answered(response: aiohttp.ClientResponse, data: bytes) -> Answered:
    detail = ErrorDetail()
    with contextlib.suppress(msgspec.DecodeError):
        detail = msgspec.json.decode(data, type=_ErrorBody).error
    message = detail.message or f"{response.url} answers {response.status} {response.reason}"
    if response.status == _UNAUTHORIZED:
        message += f" Here: --api-key-file, or {API_KEY_VARIABLE}."
    elif after := response.headers.get("Retry-After"):
        message += f" Again in {after} s."
    return Answered(response.status, detail.code or "", message)


def _reason(error: Exception) -> str:
    """aiohttp's texts name the address once more."""
    cause = getattr(error, "os_error", None)
    return (cause.strerror if cause is not None else "") or str(error) or type(error).__name__


def run_with_gateway(
    url: str | None,
    api_key_file: Path | None,
    work: Callable[[GatewayClient], Awaitable[T]],
    *,
    keeps_connections: bool = False,
) -> T:
    """For commands: from their options to the result. Raises ConfigError, Unreachable, Answered."""

    async def run() -> T:
        async with GatewayClient(find_address(url, api_key_file), keeps_connections=keeps_connections) as client:
            return await work(client)

    return asyncio.run(run())
