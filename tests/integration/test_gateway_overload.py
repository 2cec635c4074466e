"""What a gateway tells those who wait, whom it turns away, and what happens when a request's own time is over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import msgspec
import openai
import pytest
import pytest_asyncio

from gateway.admission.in_flight import InFlight
from gateway.admission.pace import MIN_MOVES
from shared.client import KottosClient
from shared.config import BusConfig
from shared.errors import ErrorCode, RequestError
from shared.messages import Cancel, GenerationParams, Submit
from tests.integration.gateway_harness import BASE, CHAT, Stack, encode

pytestmark = pytest.mark.asyncio(loop_scope="module")
MOST = MIN_MOVES + 4  # that may wait
GATEWAY = {"keepalive_s": 0.05, "max_waiting_of_tenant": MOST}
TIMEOUT = "x-request-timeout"


@pytest_asyncio.fixture(loop_scope="module")
async def http(stack: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    stack.worker.reset()
    async with aiohttp.ClientSession(stack.url) as session:
        yield session


def completion(**fields: object) -> bytes:
    return msgspec.json.encode({"model": BASE, "prompt": "x", "max_tokens": 5} | fields)


@asynccontextmanager
async def streams(http: aiohttp.ClientSession, num: int) -> AsyncIterator[list[aiohttp.ClientResponse]]:
    """So many requests that wait, one after the other; each has got a comment."""
    async with AsyncExitStack() as opened:
        found = []
        for _ in range(num):
            found.append(await opened.enter_async_context(http.post("/v1/completions", data=completion(stream=True))))
            await comment(found[-1])
        yield found
        for response in found:
            response.close()


async def comment(response: aiohttp.ClientResponse) -> str:
    async with asyncio.timeout(10):
        line = await response.content.readline()
        await response.content.readline()
    return line.decode().rstrip()


async def first_of(stack: Stack, num_running: int) -> list[InFlight]:
    """What is in flight, once the readers of the first `num_running` have their first tokens."""
    async with asyncio.timeout(10):
        while True:
            found = list(stack.gateway.admission.in_flight())
            if [one.position is None for one in found] == [i < num_running for i in range(len(found))]:
                return found
            await asyncio.sleep(0)


async def becomes(response: aiohttp.ClientResponse, expected: str) -> None:
    async with asyncio.timeout(10):
        while await comment(response) != expected:
            pass


# --- waiting ------------------------------------------------------------------------------------


async def test_comments_tell_the_place_and_it_gets_better(stack: Stack, http: aiohttp.ClientSession) -> None:
    async with streams(http, 3) as waiting:
        for number, response in enumerate(waiting, 1):
            await becomes(response, f": queue position {number}")
        first, *_ = await stack.worker.wait_for(Submit, 3)
        await stack.worker.say(first.request_id, *encode("f"))
        await becomes(waiting[2], ": queue position 2")
    await stack.worker.wait_for(Cancel, 3)


async def test_what_is_in_flight_can_be_listed(stack: Stack, http: aiohttp.ClientSession) -> None:
    async with streams(http, 2):
        first, second = await stack.worker.wait_for(Submit, 2)
        await stack.worker.say(first.request_id, *encode("f"))
        running, queued = await first_of(stack, 1)
        assert (running.request_id, running.model, running.num_output_tokens) == (first.request_id, BASE, 1)
        assert (queued.request_id, queued.position, queued.num_prompt_tokens) == (second.request_id, 1, 2)
        assert (running.phase, running.worker, queued.phase, queued.worker) == (
            "running",
            "worker-0",
            "queued",
            "worker-0",
        )
        assert 0 < queued.age_s <= running.age_s < 10
    await stack.worker.wait_for(Cancel, 2)
    assert list(stack.gateway.admission.in_flight()) == []


# --- turned away --------------------------------------------------------------------------------


async def test_a_full_line_is_a_429_and_another_models_is_not_full(stack: Stack, http: aiohttp.ClientSession) -> None:
    async with streams(http, MOST):
        await stack.worker.wait_for(Submit, MOST)
        with pytest.raises(openai.RateLimitError, match=f"{MOST} of your requests wait") as caught:
            await stack.client().completions.create(model=BASE, prompt="x")
        assert caught.value.code == "overloaded" and int(caught.value.response.headers["Retry-After"]) >= 1
        stack.worker.answer = lambda submit: encode("ok")
        await stack.client().completions.create(model=CHAT, prompt="x", max_tokens=2)


async def test_who_could_not_be_served_in_time_is_turned_away_at_once(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    """Whose turn comes in milliseconds, but it has none."""
    async with streams(http, MOST):
        for submit in (await stack.worker.wait_for(Submit, MOST))[: MIN_MOVES + 1]:
            await stack.worker.say(submit.request_id, *encode("f"))
        await first_of(stack, MIN_MOVES + 1)
        async with http.post("/v1/completions", data=completion(), headers={TIMEOUT: "0.000001"}) as response:
            body = await response.json()
        assert (response.status, body["error"]["code"]) == (429, "overloaded")
        assert "The first token would take about" in body["error"]["message"]
        assert int(response.headers["Retry-After"]) >= 1
    assert len(await stack.worker.wait_for(Submit, MOST)) == MOST  # no worker heard of it


# --- time limits --------------------------------------------------------------------------------


async def test_a_request_whose_time_is_over_is_a_504_and_its_sequence_is_cancelled(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    async with http.post("/v1/completions", data=completion(), headers={TIMEOUT: "0.2"}) as response:
        error = (await response.json())["error"]
    assert (response.status, error["type"], error["code"]) == (504, "timeout_error", "timed_out")
    assert "limit of 0.2 s" in error["message"]
    [submit] = await stack.worker.wait_for(Submit)
    [cancel] = await stack.worker.wait_for(Cancel)
    assert cancel.request_id == submit.request_id


async def test_a_stream_whose_time_is_over_ends_with_an_error_event(stack: Stack, http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/completions", data=completion(stream=True, timeout_s=0.3)) as response:
        [submit] = await stack.worker.wait_for(Submit)
        await stack.worker.say(submit.request_id, *encode("f"))
        events = [line async for line in response.content if line.startswith(b"data: ")]
    assert b'"text":"f"' in events[0] and b'"code":"timed_out"' in events[-2] and events[-1] == b"data: [DONE]\n"
    [cancel] = await stack.worker.wait_for(Cancel)
    assert cancel.request_id == submit.request_id


async def test_an_answer_in_time_is_not_touched(stack: Stack, http: aiohttp.ClientSession) -> None:
    stack.says("fox")
    async with http.post("/v1/completions", data=completion(), headers={TIMEOUT: "60"}) as response:
        assert response.status == 200


@pytest.mark.parametrize("limit", ["-1", "0", "soon", "1e9"])
async def test_a_malformed_limit_is_a_400(http: aiohttp.ClientSession, limit: str) -> None:
    async with http.post("/v1/completions", data=completion(), headers={TIMEOUT: limit}) as response:
        assert (response.status, (await response.json())["error"]["param"]) == (400, TIMEOUT)
    async with http.post("/v1/completions", data=completion(timeout_s=-1)) as response:
        assert (response.status, (await response.json())["error"]["param"]) == (400, "timeout_s")


async def test_a_limit_over_the_bus(stack: Stack, http: aiohttp.ClientSession) -> None:
    async with KottosClient(BusConfig(), bus=stack.broker.connect("client")) as client:
        with pytest.raises(RequestError, match=r"limit of 0\.2 s") as caught:
            async for _ in client.generate(BASE, text="x", params=GenerationParams(timeout_s=0.2)):
                pass
        assert caught.value.code is ErrorCode.TIMED_OUT
        await stack.worker.wait_for(Cancel)
