"""A reader that does not read: its stream ends after the write time-out, and nothing piles up."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.http import errors, server
from gateway.http.events import EventStream
from shared.config import GatewayConfig
from shared.errors import ConfigError

NUM_PAYLOADS = 1000
PAYLOAD = b"x" * 65_536


@pytest.fixture
async def outcome() -> asyncio.Future[BaseException | None]:
    """How the stream below ended."""
    return asyncio.get_running_loop().create_future()


@pytest.fixture
async def port(outcome: asyncio.Future[BaseException | None]) -> AsyncIterator[int]:
    async def stream(request: web.Request) -> web.StreamResponse:
        events = EventStream(request, write_timeout_s=0.2)
        try:
            for _ in range(NUM_PAYLOADS):
                await events.send([PAYLOAD])
        except BaseException as error:
            outcome.set_result(error)
            raise
        outcome.set_result(None)
        return events.response

    app = web.Application(middlewares=[errors.middleware])
    app.router.add_get("/", stream)
    with server.bind(GatewayConfig(port=0)) as bound:
        async with server.serving(app, bound, grace_s=1.0):
            yield bound.getsockname()[1]


async def test_a_reader_that_stops_reading_is_ended(port: int, outcome: asyncio.Future[BaseException | None]) -> None:
    with socket.create_connection(("127.0.0.1", port)) as reader:
        reader.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            assert isinstance(await outcome, ConnectionResetError)


async def test_a_reader_that_keeps_reading_gets_all(port: int, outcome: asyncio.Future[BaseException | None]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    num_bytes = 0
    while data := await reader.read(1 << 20):
        num_bytes += len(data)
    writer.close()
    assert await outcome is None
    assert num_bytes > NUM_PAYLOADS * len(PAYLOAD)


async def test_a_port_in_use_refuses_with_its_key(port: int) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.port"):
        server.bind(GatewayConfig(port=port))
