"""Readers that don't keep up: their streams end and say why, nobody waits for them, and what they leave is bounded."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from gateway.http import events
from shared.ids import RequestId
from shared.messages import Cancel, Ended, Submit
from tests.integration.gateway_harness import BASE, Stack, encode, open_stack
from tests.raw_http import connect, connect_lazily, post, read_all

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRITE_TIMEOUT_S = 1.5
MAX_UNREAD_TOKENS = 20_000
CONTEXT_LENGTH = 100_000
TEXT = "The quick brown fox jumps over the lazy dog. " * 20
WHOLE_END = b'"finish_reason":"stop"'
END = b"data: [DONE]\n\n\r\n0\r\n\r\n"  # and the last chunk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    settings = {
        "write_timeout_s": WRITE_TIMEOUT_S,
        "keepalive_s": 0.1,
        "max_unread_tokens": MAX_UNREAD_TOKENS,
    }
    folder = tmp_path_factory.mktemp("gateway")
    async with open_stack(folder, context_length=CONTEXT_LENGTH, **settings) as opened:
        yield opened


@pytest.fixture(autouse=True)
def fresh(stack: Stack) -> None:
    stack.worker.reset()


def asked() -> bytes:
    body = {"model": BASE, "prompt": "x", "stream": True, "max_tokens": CONTEXT_LENGTH // 2}
    return post("/v1/completions", msgspec.json.encode(body))


async def ask_lazily(stack: Stack) -> tuple[socket.socket, RequestId]:
    """A stream whose reader does not read, as far as its worker."""
    num_before = sum(isinstance(message, Submit) for message in stack.worker.heard)
    lazy = connect_lazily(stack.url)
    lazy.sendall(asked())
    submits = await stack.worker.wait_for(Submit, num_before + 1)
    return lazy, submits[-1].request_id


async def say_much(stack: Stack, request_id: RequestId, num_times: int) -> None:
    """Or less, where the gateway has had enough."""
    token_ids = encode(TEXT)
    for _ in range(num_times):
        if request_id not in stack.worker.sequences:
            return
        await stack.worker.say(request_id, *token_ids)
        await asyncio.sleep(0)


async def test_one_that_reads_too_late_finds_why_it_was_ended(stack: Stack) -> None:
    lazy, request_id = await ask_lazily(stack)
    with lazy:
        await say_much(stack, request_id, 60)
        [cancel] = await stack.worker.wait_for(Cancel)
        assert cancel.request_id == request_id
        data = await read_all(lazy)
    assert b"client_too_slow" in data
    assert data.endswith(END)
    assert WHOLE_END not in data
    read = b"".join(re.findall(rb'"text":"([^"]*)"', data)).decode()
    assert read and (TEXT * 60).startswith(read)  # what came is a beginning, with no hole before the error


async def test_one_that_never_reads_costs_no_descriptor(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LAST_WORDS_S", 0.05)
    connections = stack.gateway.connections
    lazy, request_id = await ask_lazily(stack)
    with lazy:
        await say_much(stack, request_id, 60)
        await stack.worker.wait_for(Cancel)
        async with asyncio.timeout(10):
            while connections.num_open:  # noqa: ASYNC110  # nobody says so
                await asyncio.sleep(0.01)


async def test_one_that_reads_slowly_and_keeps_up_gets_all(stack: Stack) -> None:
    """Never further behind than it may be, though the socket is always full."""
    lazy, request_id = await ask_lazily(stack)
    loop = asyncio.get_running_loop()
    with lazy:
        lazy.setblocking(False)
        data = b""
        for _ in range(30):
            await say_much(stack, request_id, 4)
            wanted = len(data) + 4 * len(TEXT)
            while len(data) < wanted:
                data += await loop.sock_recv(lazy, 2048)
        await stack.worker.say(request_id, ended=Ended("stop"))
        data += await read_until_done(lazy)
    assert b"client_too_slow" not in data
    assert WHOLE_END in data
    assert data.count(b"lazy dog") == 30 * 4 * 20


async def test_others_are_served_beside_one_that_does_not_read(stack: Stack) -> None:
    lazy, stuck_id = await ask_lazily(stack)
    with lazy:
        await say_much(stack, stuck_id, 60)
        async with connect(stack.url) as connection:
            await connection.send(asked())
            *_, submit = await stack.worker.wait_for(Submit, 2)
            await stack.worker.say(submit.request_id, *encode("fox"), ended=Ended("stop"))
            assert b'"text":"fox"' in await connection.reader.readuntil(b"[DONE]")
        await stack.worker.wait_for(Cancel)
        await read_all(lazy)


async def test_too_much_unread_ends_who_left_the_most(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.output.readers.LOOK_S", 0.05)
    settings = {"max_unread_tokens": MAX_UNREAD_TOKENS}
    folder = tmp_path_factory.mktemp("unread")
    async with open_stack(folder, context_length=CONTEXT_LENGTH, **settings) as stack:
        first, first_id = await ask_lazily(stack)
        second, second_id = await ask_lazily(stack)
        with first, second:
            [first_reader, second_reader] = stack.gateway.admission.readers()
            while first_reader.num_unread < MAX_UNREAD_TOKENS // 3:
                await say_much(stack, first_id, 1)
            while second_reader.num_unread < MAX_UNREAD_TOKENS * 2 // 3:
                await say_much(stack, second_id, 1)
            [cancel] = await stack.worker.wait_for(Cancel)
            assert cancel.request_id == second_id
            data = await read_until_done(second)
            assert b"client_too_slow" in data and WHOLE_END not in data
            await stack.worker.say(first_id, ended=Ended("stop"))
            assert WHOLE_END in await read_until_done(first)


async def read_until_done(lazy: socket.socket) -> bytes:
    lazy.setblocking(False)
    data = b""
    async with asyncio.timeout(10):
        while not data.endswith(END):
            data += await asyncio.get_running_loop().sock_recv(lazy, 1 << 20)
    return data
