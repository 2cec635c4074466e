"""Conversations with a server whose context is 100 words."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from cli.chat.conversation import Exchange
from cli.chat.session import Asked, ChatSession
from cli.chat.show import Silent
from cli.exit_codes import Answered
from cli.sse import ServerEvent

CONTEXT = 100
TOO_LONG = Answered(400, "context_length_exceeded", "too long")


class Server:
    """Counts words as tokens, and echoes the last message."""

    def __init__(self, *, can_count: bool = True) -> None:
        self.asked: list[dict[str, Any]] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.is_halfway = asyncio.Event()
        self._can_count = can_count

    async def ask(self, method: str, path: str, kind: Any, body: Any = None) -> Any:
        if path == "/v1/models":
            return msgspec.convert({"data": [{"id": "a"}, {"id": "b"}]}, kind)
        if not self._can_count:
            raise Answered(404, "", "no such route")
        return msgspec.convert({"count": count(body), "max_model_len": CONTEXT}, kind)

    @asynccontextmanager
    async def stream(self, method: str, path: str, body: Any = None) -> AsyncIterator[AsyncIterator[ServerEvent]]:
        self.asked.append(body)
        if count(body) > CONTEXT:
            raise TOO_LONG
        yield self._answer(body["messages"][-1].content)

    async def _answer(self, text: str) -> AsyncIterator[ServerEvent]:
        half = msgspec.json.encode({"choices": [{"delta": {"content": text}}]})
        yield ServerEvent(half)
        self.is_halfway.set()
        await self.goes_on.wait()
        yield ServerEvent(half)
        yield ServerEvent(b"[DONE]")


def count(body: Any) -> int:
    return sum(len(message.content.split()) for message in body["messages"])


def session(server: Server, **asked: Any) -> ChatSession:
    return ChatSession(server, "a", Asked(**asked), "s")  # type: ignore[arg-type]


async def test_questions_and_answers_go_along() -> None:
    server = Server()
    talk = session(server, temperature=0.0, max_tokens=5)
    await talk.say("one ", Silent())
    await talk.say("two ", Silent())
    assert [message.content for message in server.asked[1]["messages"]] == ["s", "one ", "one one ", "two "]
    assert (server.asked[1]["temperature"], server.asked[1]["max_tokens"]) == (0.0, 5)
    assert "temperature" not in (await asked_without()).asked[0]


async def asked_without() -> Server:
    server = Server()
    await session(server).say("x", Silent())
    return server


@pytest.mark.parametrize(("can_count", "most"), [(True, 75), (False, 100)])
async def test_the_oldest_is_left_out_where_it_no_longer_fits(can_count: bool, most: int) -> None:
    """Where the server counts, a quarter of a small context is kept for the answer."""
    server = Server(can_count=can_count)
    talk = session(server)
    for number in range(8):
        await talk.say(f"{number} " + "word " * 9, Silent())  # 10 words, and 20 of an answer
    prompts = [body for body in server.asked if count(body) <= CONTEXT]
    assert len(prompts) == 8 and all(count(body) <= most for body in prompts)
    assert talk.num_forgotten == 1
    kept = [exchange.question[0] for exchange in talk.conversation.exchanges]
    assert kept[-1] == "7" and kept == sorted(kept) and "0" not in kept


async def test_room_for_the_tokens_asked_for_is_kept() -> None:
    server = Server()
    talk = session(server, max_tokens=60)
    for _ in range(3):
        await talk.say("word " * 9, Silent())
    assert [count(body) for body in server.asked] == [10, 37, 37]  # two exchanges more would have 64


async def test_what_never_fits_is_an_error_and_is_not_kept() -> None:
    talk = session(Server(can_count=False))
    await talk.say("hi ", Silent())
    with pytest.raises(Answered, match="too long"):
        await talk.say("word " * 200, Silent())
    assert talk.conversation.exchanges == []


async def test_an_answer_that_is_stopped_is_kept_as_far_as_it_came() -> None:
    server = Server()
    server.goes_on.clear()
    talk = session(server)
    saying = asyncio.create_task(talk.say("hi ", Silent()))
    async with asyncio.timeout(5):
        await server.is_halfway.wait()
    saying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saying
    assert talk.conversation.exchanges == [Exchange("hi ", "hi ")]


async def test_it_goes_on_with_another_model_that_is_there() -> None:
    server = Server()
    talk = session(server)
    await talk.say("hi ", Silent())
    await talk.switch("b")
    await talk.say("ho ", Silent())
    assert server.asked[1]["model"] == "b" and len(server.asked[1]["messages"]) == 4
    with pytest.raises(Answered, match="there are: a, b"):
        await talk.switch("c")
