from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cli.exit_codes import Answered, Unreachable
from cli.load_test.plan import Planned
from cli.load_test.request import Api, Measured, body_of, measure
from cli.sse import ServerEvent

PLANNED = Planned(0, None, "m", "some words", 4)


class Server:
    def __init__(self, *events: str | Exception) -> None:
        self.body: Any = None
        self._events = events

    @asynccontextmanager
    async def stream(self, method: str, path: str, body: Any) -> AsyncIterator[AsyncIterator[ServerEvent]]:
        self.body = body
        if self._events and isinstance(self._events[0], Exception):
            raise self._events[0]
        yield self._said()

    async def _said(self) -> AsyncIterator[ServerEvent]:
        for event in self._events:
            assert isinstance(event, str)
            yield ServerEvent(comment=event) if event.startswith("queue") else ServerEvent(event.encode())


async def measured(*events: str | Exception, api: Api = "completions") -> Measured:
    ticks = iter(range(100))
    server: Any = Server(*events)
    return await measure(server, PLANNED, api, ignore_eos=True, arrived_at_s=0.0, clock=lambda: float(next(ticks)))


def chunk(text: str, num_tokens: int | None = None) -> str:
    usage = "null" if num_tokens is None else f'{{"prompt_tokens": 2, "completion_tokens": {num_tokens}}}'
    return f'{{"choices": [{{"text": "{text}"}}], "usage": {usage}}}'


END = '{"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 4}}'


async def test_tokens_are_timed_as_the_server_counts_them() -> None:
    found = await measured("queue 1", chunk("a", 1), chunk("", 2), chunk("bc", 4), END, "[DONE]")
    assert found.token_at_s == [0.0, 1.0, 2.0, 2.0]
    assert (found.num_prompt_tokens, found.num_output_tokens, found.error) == (2, 4, "")


async def test_without_its_counts_a_chunk_is_a_token() -> None:
    delta = '{"choices": [{"delta": {"content": "x"}}]}'
    found = await measured('{"choices": [{"delta": {"role": "assistant", "content": ""}}]}', delta, delta, "[DONE]")
    assert found.token_at_s == [1.0, 2.0] and found.num_output_tokens == 2


@pytest.mark.parametrize(
    ("events", "error", "num_tokens"),
    [
        ([Answered(429, "overloaded", "full")], "429 overloaded", 0),
        ([Answered(503, "", "gone")], "503", 0),
        ([chunk("a", 1), '{"error": {"message": "x", "code": "client_too_slow"}}'], "200 client_too_slow", 1),
        ([chunk("a", 1)], "the stream breaks off", 1),
        (["<html>"], "no chunk", 0),
    ],
)
async def test_what_fails_is_counted_by_its_reason(events: list[str | Exception], error: str, num_tokens: int) -> None:
    found = await measured(*events)
    assert found.error.startswith(error) and len(found.token_at_s) == num_tokens and found.was_answered


async def test_whether_there_was_any_answer_is_known() -> None:
    assert not (await measured(Unreachable("refused"))).was_answered


def test_bodies_are_those_of_both_apis() -> None:
    chat = body_of(PLANNED, "chat", ignore_eos=False)
    text = body_of(PLANNED, "completions", ignore_eos=True)
    assert chat["messages"] == [{"role": "user", "content": "some words"}] and "ignore_eos" not in chat
    assert (text["prompt"], text["ignore_eos"], text["max_tokens"]) == ("some words", True, 4)
