"""Connections and bodies that no client library would make: each is answered or ended, in time, and others are well."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from gateway.http import reading
from shared.messages import Submit
from tests.integration.gateway_harness import BASE, Stack, open_stack
from tests.raw_http import JSON, Answer, connect, head, post

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMPLETIONS = "/v1/completions"
MAX_BODY_BYTES = 100_000
MAX_CONNECTIONS = 20
ASKED = msgspec.json.encode({"model": BASE, "prompt": "x"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    settings: dict[str, Any] = {
        "max_body_bytes": MAX_BODY_BYTES,
        "read_timeout_s": 0.3,
        "idle_timeout_s": 0.6,
        "max_connections": MAX_CONNECTIONS,
    }
    async with open_stack(tmp_path_factory.mktemp("gateway"), **settings) as opened:
        opened.says("ok")
        yield opened
        async with connect(opened.url) as connection:  # after all of this it serves
            await connection.send(post(COMPLETIONS, ASKED))
            assert (await connection.answer()).status == 200


def code_of(answer: Answer) -> str | None:
    error = msgspec.json.decode(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    code: str | None = error["code"]
    return code


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = JSON | {"Transfer-Encoding": "chunked"}


# --- slow and broken bodies ---------------------------------------------------------------------


@pytest.mark.parametrize("headers", [JSON | {"Content-Length": "100"}, CHUNKED], ids=["length", "chunked"])
async def test_a_body_that_does_not_arrive_in_time(stack: Stack, headers: dict[str, str]) -> None:
    async with connect(stack.url) as connection:
        await connection.send(head(COMPLETIONS, headers))
        answer = await connection.answer()
        assert (answer.status, code_of(answer)) == (408, "client_too_slow")
        assert answer.headers["connection"] == "close"
        assert await connection.rest() == b""


async def test_a_body_in_pieces(stack: Stack) -> None:
    async with connect(stack.url) as connection:
        await connection.send(head(COMPLETIONS, CHUNKED))
        for byte in ASKED:
            await connection.send(chunk(bytes([byte])))
        await connection.send(chunk(b""))
        assert (await connection.answer()).status == 200


async def test_a_length_over_the_limit_is_refused_before_the_body_comes(stack: Stack) -> None:
    async with connect(stack.url) as connection:
        await connection.send(head(COMPLETIONS, JSON | {"Content-Length": str(1 << 40)}))
        answer = await connection.answer()
        assert (answer.status, code_of(answer)) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"


async def test_an_endless_body(stack: Stack) -> None:
    async with connect(stack.url) as connection:
        await connection.send(head(COMPLETIONS, CHUNKED))
        for _ in range(2 * MAX_BODY_BYTES // 1000):
            await connection.send(chunk(b" " * 1000))
        answer = await connection.answer()
        assert (answer.status, code_of(answer)) == (413, "body_too_large")


async def test_a_body_that_unpacks_to_more_than_the_limit(stack: Stack) -> None:
    packed = gzip.compress(b" " * (20 * MAX_BODY_BYTES))
    assert len(packed) < MAX_BODY_BYTES
    async with connect(stack.url) as connection:
        await connection.send(post(COMPLETIONS, packed, JSON | {"Content-Encoding": "gzip"}))
        assert (await connection.answer()).status == 413


async def test_a_packed_body(stack: Stack) -> None:
    async with connect(stack.url) as connection:
        await connection.send(post(COMPLETIONS, gzip.compress(ASKED), JSON | {"Content-Encoding": "gzip"}))
        assert (await connection.answer()).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(post(COMPLETIONS, b"not packed", JSON | {"Content-Encoding": "gzip"}), id="not gzip"),
        pytest.param(head(COMPLETIONS, CHUNKED) + b"zz\r\n" + ASKED, id="chunk size"),
        pytest.param(head(COMPLETIONS, CHUNKED) + b"-5\r\n" + ASKED, id="negative chunk size"),
        pytest.param(head(COMPLETIONS, JSON | {"Content-Length": "-5"}) + ASKED, id="negative length"),
        pytest.param(head(COMPLETIONS, JSON | {"Content-Length": "many"}) + ASKED, id="length in words"),
        pytest.param(head(COMPLETIONS, CHUNKED | {"Content-Length": "5"}) + chunk(ASKED), id="two lengths"),
        pytest.param(b"GET\r\n\r\n", id="no path"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="version"),
        pytest.param(b"GET / HTTP/1.1\r\nno colon\r\n\r\n", id="header without a colon"),
        pytest.param(head("/" + "x" * 20_000), id="long path"),
        pytest.param(head(COMPLETIONS, JSON | {"X-Long": "x" * 20_000}), id="long header"),
        pytest.param(head(COMPLETIONS, JSON | {f"X-{i}": "x" for i in range(500)}), id="many headers"),
    ],
)
async def test_what_is_not_encoded_as_it_should_be(stack: Stack, sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with connect(stack.url) as connection:
        await connection.send(sent)
        answer = await connection.answer()
        assert (answer.status, code_of(answer)) == (400, None)
    assert "Traceback" not in caplog.text and "no colon" not in caplog.text


async def test_more_than_the_length_says_is_another_request_and_a_bad_one(stack: Stack) -> None:
    async with connect(stack.url) as connection:
        await connection.send(post(COMPLETIONS, ASKED))
        assert (await connection.answer()).status == 200
        await connection.send(b"and more\r\n\r\n")
        assert (await connection.answer()).status == 400
        assert await connection.rest() == b""


async def test_a_sender_that_leaves_amid_its_body_asks_for_nothing(stack: Stack) -> None:
    stack.worker.heard.clear()
    async with connect(stack.url) as connection:
        await connection.send(head(COMPLETIONS, JSON | {"Content-Length": str(len(ASKED) + 1)}) + ASKED)
    async with connect(stack.url) as connection:
        await connection.send(post(COMPLETIONS, ASKED))
        assert (await connection.answer()).status == 200
    assert len([message for message in stack.worker.heard if isinstance(message, Submit)]) == 1


async def test_a_body_that_nobody_wants_is_not_waited_for(stack: Stack) -> None:
    async with connect(stack.url) as connection:
        await connection.send(head("/nowhere", JSON | {"Content-Length": "1000"}))
        answer = await connection.answer()
        assert answer.status == 404  # and no 408
        assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "json"]
)
async def test_what_a_page_of_another_origin_may_send_is_refused(stack: Stack, content_type: str) -> None:
    async with connect(stack.url) as connection:
        await connection.send(post(COMPLETIONS, ASKED, {"Content-Type": content_type} if content_type else {}))
        answer = await connection.answer()
        assert (answer.status, code_of(answer)) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json", "application/octet-stream"],
)
async def test_json_by_any_name(stack: Stack, content_type: str) -> None:
    async with connect(stack.url) as connection:
        await connection.send(post(COMPLETIONS, ASKED, {"Content-Type": content_type}))
        assert (await connection.answer()).status == 200


async def test_bodies_on_their_way_are_bounded_together(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_READING_BYTES", 1000)
    half_sent = head(COMPLETIONS, JSON | {"Content-Length": "800"})
    async with connect(stack.url) as first:
        await first.send(half_sent)
        async with connect(stack.url) as second:
            await second.send(half_sent)
            answer = await second.answer()
            assert (answer.status, code_of(answer), answer.headers["retry-after"]) == (429, "overloaded", "1")
        async with connect(stack.url) as third:
            await third.send(post(COMPLETIONS, ASKED))  # it is there at once
            assert (await third.answer()).status == 200
        assert (await first.answer()).status == 408
    async with connect(stack.url) as fourth:
        await fourth.send(half_sent)
        assert (await fourth.answer()).status == 408  # there is room again


# --- connections --------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", head(COMPLETIONS)[:-2]], ids=["nothing", "half a head"])
async def test_a_connection_that_brings_no_request_ends(stack: Stack, sent: bytes) -> None:
    async with connect(stack.url) as connection:
        await connection.send(sent)
        async with asyncio.timeout(10):
            assert await connection.rest() == b""


async def test_a_connection_that_brings_no_other_request_ends(stack: Stack) -> None:
    async with connect(stack.url) as connection:
        for _ in range(2):
            await connection.send(post(COMPLETIONS, ASKED))
            assert (await connection.answer()).status == 200
        async with asyncio.timeout(10):
            assert await connection.rest() == b""


async def test_one_connection_too_many_is_told_so(stack: Stack) -> None:
    async with aiohttp.ClientSession(stack.url, connector=aiohttp.TCPConnector(limit=0)) as http:
        stack.worker.reset()
        running = [
            asyncio.create_task(http.post(COMPLETIONS, json={"model": BASE, "prompt": "x", "stream": True}))
            for _ in range(MAX_CONNECTIONS)
        ]
        await stack.worker.wait_for(Submit, MAX_CONNECTIONS)
        async with connect(stack.url) as one_more:
            await one_more.send(post(COMPLETIONS, ASKED))
            answer = await one_more.answer()
            assert (answer.status, code_of(answer), answer.headers["retry-after"]) == (503, "unavailable", "1")
            assert await one_more.rest() == b""
        async with connect(stack.url) as silent:
            async with asyncio.timeout(10):
                assert await silent.rest() == b""  # it did not even ask
        for task in running:
            task.cancel()
        await asyncio.wait(running)
    stack.says("ok")
    async with asyncio.timeout(10):
        while await status_of_a_new_connection(stack) != 200:
            pass


async def status_of_a_new_connection(stack: Stack) -> int:
    async with connect(stack.url) as connection:
        await connection.send(post(COMPLETIONS, ASKED))
        return (await connection.answer()).status
