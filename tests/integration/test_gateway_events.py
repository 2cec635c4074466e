"""A reader that does not read: its stream ends after the write time-out, any answer some time later."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.http import errors, server
from gateway.http.events import EventStream
from shared.config import GatewayConfig
from shared.errors import ConfigError

NUM_PAYLOADS = 1000
PAYLOAD = b"x" * 65_536
CONFIG = GatewayConfig(port=0, write_timeout_s=0.2, keepalive_s=0.1)


@pytest.fixture
async def outcome() -> asyncio.Future[BaseException | None]:
    """How an answer below ended."""
    return asyncio.get_running_loop().create_future()


@pytest.fixture
async def port(outcome: asyncio.Future[BaseException | None], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(server, "LAST_WORDS_S", 0.2)

    async def stream(request: web.Request) -> web.StreamResponse:
        events = EventStream(request, CONFIG.write_timeout_s)
        for _ in range(NUM_PAYLOADS):
            await events.send([PAYLOAD])
        return events.response

    async def whole(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=PAYLOAD * NUM_PAYLOADS)
        await response.prepare(request)
        await response.write_eof()
        return response

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except BaseException as error:
            outcome.set_result(error)
            raise
        outcome.set_result(None)
        return response

    app = web.Application(middlewares=[errors.middleware, watch])
    app.add_routes([web.get("/stream", stream), web.get("/whole", whole)])
    with server.bind(CONFIG) as bound:
        async with server.serving(CONFIG, app, bound, grace_s=1.0):
            yield bound.getsockname()[1]


async def test_a_reader_that_stops_reading_is_ended(port: int, outcome: asyncio.Future[BaseException | None]) -> None:
    with socket.create_connection(("127.0.0.1", port)) as reader:
        reader.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            assert isinstance(await outcome, ConnectionResetError)


async def test_a_reader_of_any_other_answer_is_ended_by_the_kernel(
    port: int, outcome: asyncio.Future[BaseException | None]
) -> None:
    with socket.create_connection(("127.0.0.1", port)) as reader:
        reader.sendall(b"GET /whole HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(20):
            assert isinstance(await outcome, ConnectionError | asyncio.CancelledError)


async def test_a_reader_that_keeps_reading_gets_all(port: int, outcome: asyncio.Future[BaseException | None]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    num_bytes = 0
    while data := await reader.read(1 << 20):
        num_bytes += len(data)
    writer.close()
    assert await outcome is None
    assert num_bytes > NUM_PAYLOADS * len(PAYLOAD)


async def test_a_port_in_use_refuses_with_its_key(port: int) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.port"):
        server.bind(GatewayConfig(port=port))
