"""The feed of a gateway whose worker says what a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from gateway.http.admin.feed_viewers import MAX_VIEWERS
from shared import subjects
from shared.ids import ModelName
from shared.messages import Ended, StepTold, Submit, SwitchTold, Timeline, TurnTold, WorkerState
from tests.integration.gateway_harness import ASLEEP, BASE, CHAT, Stack, encode, make_key, open_stack
from tests.integration.scripted_worker import FIRST_LIFE, WORKER
from tests.recorder import Recorder

ADMIN_KEY, OTHER_KEY = "sk-kottos-admin-0123456789", "sk-kottos-other-0123456789"
PROMPT = "a secret that nobody else may read"


class Reader:
    """Keeps all that it read."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.raw = b""
        self._response = response

    async def next(self, accept: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next event that is accepted."""
        async with asyncio.timeout(20):
            async for line in self._response.content:
                self.raw += line
                if line.startswith(b"data: "):
                    event: dict[str, Any] = msgspec.json.decode(line.removeprefix(b"data: "))
                    if accept(event):
                        return event
        raise AssertionError("the feed ended")


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with open_stack(tmp_path) as opened:
        yield opened


async def test_requests_are_shown_as_they_go_on_without_what_they_say(stack: Stack) -> None:
    tell = stack.worker.worker_bus

    def with_one(phase: str) -> Callable[[dict[str, Any]], bool]:
        return lambda event: event["type"] == "state" and [r["phase"] for r in event["requests"]] == [phase]

    async with aiohttp.ClientSession(stack.url) as http, http.get("/admin/feed") as response, stack.client() as client:
        reader = Reader(response)
        first = await reader.next(lambda event: True)
        assert first["type"] == "state" and first["gateway"] == stack.gateway.owner_id
        assert (first["requests"], first["num_requests"], first["num_viewers"]) == ([], 0, 1)
        assert [model["model"] for model in first["models"]] == [CHAT, BASE, ASLEEP]
        asking = asyncio.create_task(client.completions.create(model=BASE, prompt=PROMPT, max_tokens=3))
        [submit] = await stack.worker.wait_for(Submit)
        waiting = await reader.next(with_one("waiting"))
        [request] = waiting["requests"]
        assert (request["id"], request["model"], request["tenant"]) == (submit.request_id, BASE, "local")
        assert request["num_prompt_tokens"] == len(submit.prompt) and "queue position 1" in request["status"]
        state = WorkerState(WORKER, FIRST_LIFE, "deadline", 100, {}, 200, {}, (submit.request_id,))
        await tell.publish(subjects.TIMELINE, state)
        [prefilled] = (await reader.next(with_one("prefill")))["requests"]
        assert (prefilled["worker"], prefilled["status"][:6]) == (WORKER, "its pr")
        base = {model["model"]: model for model in waiting["models"]}[BASE]
        assert (base["waiting"], base["running"], base["slo"]) == (1, 0, {"ttft_s": 10.0, "tbt_s": 0.1})
        await stack.worker.say(submit.request_id, *encode("fox")[:1])
        decoding = await reader.next(with_one("decode"))
        [request] = decoding["requests"]
        assert (request["num_output_tokens"], request["status"], decoding["num_requests"]) == (1, "", 1)
        await stack.worker.say(submit.request_id, *encode("dog")[:1], ended=Ended("length"))
        await asking
        ended = await reader.next(lambda event: event["type"] == "state" and event["requests"] == [])
        assert ended["at_s"] > decoding["at_s"] > first["at_s"] > 0
        assert PROMPT.encode() not in reader.raw and b"fox" not in reader.raw


async def test_turns_come_to_every_viewer_on_the_gateways_clock(stack: Stack) -> None:
    asked = Recorder()
    await stack.worker.worker_bus.subscribe(subjects.WATCH, asked)
    steps = StepTold(0.0, 0.0625, 7, 0, 1), StepTold(0.125, 0.125, 0, 1, 1)
    turns = (
        TurnTold(ModelName(BASE), 0.5, SwitchTold("streamed", 0.25, 100), steps),
        TurnTold(ModelName(CHAT), 0.25, None, (StepTold(0.0, 0.125, 0, 2, 2),)),
    )
    async with aiohttp.ClientSession(stack.url) as http:
        async with http.get("/admin/feed") as one, http.get("/admin/feed") as other:
            readers = [Reader(one), Reader(other)]
            before = await readers[0].next(lambda event: event["type"] == "state")
            await asked.wait_for(1)
            await stack.worker.worker_bus.publish(subjects.TIMELINE, Timeline(WORKER, FIRST_LIFE, turns))
            [event, same] = [await reader.next(lambda event: event["type"] == "turns") for reader in readers]
            after = await readers[0].next(lambda event: event["type"] == "state")
        assert event == same and event["worker"] == WORKER
        first, second = event["turns"]
        assert (first["model"], second["model"]) == (BASE, CHAT)
        assert first["switch"] == {"kind": "streamed", "waited_s": 0.25, "copied_bytes": 100}
        assert second["switch"] is None
        assert (first["steps"], second["steps"]) == ([[0.0, 0.0625, 7, 0], [0.125, 0.125, 0, 1]], [[0.0, 0.125, 0, 2]])
        assert second["began_at_s"] - first["began_at_s"] == pytest.approx(0.25, abs=2e-6)
        assert before["at_s"] <= first["began_at_s"] + 0.5 <= after["at_s"]
        [worker] = after["workers"]
        assert worker["worker"] == WORKER and worker["tokens_per_s"] > 0 and worker["switches_per_s"] > 0
        assert {model["model"]: model["tokens_per_s"] > 0 for model in after["models"]} == {
            CHAT: True, BASE: True, ASLEEP: False
        }  # fmt: skip


async def test_so_many_may_watch_whoever_leaves_makes_room_and_web_pages_may_not(stack: Stack) -> None:
    async with aiohttp.ClientSession(stack.url) as http, asyncio.timeout(20):
        assert await get_status(http, Origin="https://example.org") == 403
        responses = [await http.get("/admin/feed") for _ in range(MAX_VIEWERS)]
        async with http.get("/admin/feed") as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (429, "10")
        responses.pop().close()
        while (await get_status(http)) == 429:
            pass
        for response in responses:
            response.close()


async def get_status(http: aiohttp.ClientSession, **headers: str) -> int:
    async with http.get("/admin/feed", headers=headers) as response:
        return response.status


async def test_with_keys_only_an_administrator_may_watch(tmp_path: Path) -> None:
    make_key(tmp_path, "admin", ADMIN_KEY, is_admin=True)
    make_key(tmp_path, "other", OTHER_KEY)
    async with open_stack(tmp_path) as stack, aiohttp.ClientSession(stack.url) as http:
        assert await get_status(http) == 401
        assert await get_status(http, Authorization=f"Bearer {OTHER_KEY}") == 403
        assert await get_status(http, Authorization=f"Bearer {ADMIN_KEY}") == 200
