"""Two real models on one worker: per-token turns, memory for one of them, and clients that leave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby

from openai import AsyncOpenAI

from benchmarks.served import Served
from shared.client import KottosClient
from shared.client_buffers import Event
from shared.messages import ModelSwitched, RequestFinished
from tests.e2e.driving import BASE_MODEL, BOTH, CHAT_MODEL, bus_config, complete, open_client

PROMPT = "One, two, three,"
NUM_TOKENS = 32


class Events:
    """What the stack says while a test runs."""

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self._news = asyncio.Condition()

    async def read(self, client: KottosClient) -> None:
        async for event in client.events():
            async with self._news:
                self.seen.append(event)
                self._news.notify_all()

    async def finished(self, model: str) -> RequestFinished:
        """The first request of the model that ended."""
        async with asyncio.timeout(30), self._news:
            while True:
                for event in self.seen:
                    if isinstance(event, RequestFinished) and event.model == model:
                        return event
                await self._news.wait()

    def switches(self) -> list[ModelSwitched]:
        return [event for event in self.seen if isinstance(event, ModelSwitched)]


@asynccontextmanager
async def listening(served: Served) -> AsyncIterator[Events]:
    events = Events()
    async with KottosClient(bus_config(served)) as client, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(events.read(client))
        yield events
        reading.cancel()


async def stream_both(client: AsyncOpenAI, num_tokens: int = NUM_TOKENS) -> list[str]:
    """Both models at the same time; whose token arrived, in order of arrival."""
    arrivals: list[str] = []

    async def stream(model: str) -> None:
        chunks = await client.completions.create(
            model=model,
            prompt=PROMPT,
            max_tokens=num_tokens,
            temperature=0,
            stream=True,
            extra_body={"ignore_eos": True, "return_token_ids": True},
        )
        async for chunk in chunks:
            [choice] = chunk.choices
            arrivals.extend([model] * len(choice.token_ids))  # type: ignore[attr-defined]  # vLLM's field

    async with asyncio.TaskGroup() as tasks:
        for model in BOTH:
            tasks.create_task(stream(model))
    return arrivals


def turns(arrivals: list[str]) -> list[int]:
    """Tokens of one model in a row, while both were streaming."""
    begin = max(arrivals.index(model) for model in BOTH)
    end = min(len(arrivals) - arrivals[::-1].index(model) for model in BOTH)
    return [len(list(group)) for _, group in groupby(arrivals[begin:end])]


async def test_resident_models_take_turns_token_by_token(stack: Served, client: AsyncOpenAI) -> None:
    for model in BOTH:
        await complete(client, model, PROMPT, max_tokens=1)  # now it is resident
    async with listening(stack) as events:
        arrivals = await stream_both(client)
        assert {model: arrivals.count(model) for model in BOTH} == dict.fromkeys(BOTH, NUM_TOKENS)
        for model in BOTH:
            await events.finished(model)
        assert len(events.switches()) > 1.5 * NUM_TOKENS  # of 2 * NUM_TOKENS steps
        assert len(turns(arrivals)) > NUM_TOKENS  # less, as a late reader finds several tokens on a connection
        assert {switch.kind for switch in events.switches()} == {"resident"}


async def test_both_finish_where_only_one_fits_at_a_time(small_stack: Served) -> None:
    async with listening(small_stack) as events, open_client(small_stack) as client:
        num_tokens = (
            3 * NUM_TOKENS
        )  # a turn is at least twice as long as its copy, which may take half a second at first
        arrivals = await stream_both(client, num_tokens)
        assert {model: arrivals.count(model) for model in BOTH} == dict.fromkeys(BOTH, num_tokens)
        assert len(turns(arrivals)) >= 4  # none waited for the other's end
        for model in BOTH:
            await events.finished(model)
        copied = [switch for switch in events.switches() if switch.kind == "copied"]
        assert {switch.model for switch in copied} == set(BOTH)
        assert all(switch.copied_bytes > 200e6 for switch in copied)


async def test_switching_changes_no_token(stack: Served, client: AsyncOpenAI) -> None:
    asked = {"max_tokens": 12, "extra_body": {"ignore_eos": True, "return_token_ids": True}}
    alone = [(await complete(client, model, PROMPT, **asked)).token_ids for model in BOTH]
    together = await asyncio.gather(*(complete(client, model, PROMPT, **asked) for model in BOTH))
    assert [completed.token_ids for completed in together] == alone


async def test_a_client_that_leaves_frees_its_sequence(stack: Served, client: AsyncOpenAI) -> None:
    async with listening(stack) as events:
        stream = await client.completions.create(
            model=BASE_MODEL, prompt=PROMPT, max_tokens=4000, stream=True, extra_body={"ignore_eos": True}
        )
        await anext(aiter(stream))
        await stream.close()
        left = await events.finished(BASE_MODEL)
        assert left.finish_reason == "cancelled"
        assert 1 <= left.num_output_tokens < 100
        num_before = len(events.switches())
        await complete(client, CHAT_MODEL, PROMPT, max_tokens=16)
        await events.finished(CHAT_MODEL)
        assert len(events.switches()) - num_before <= 2  # one that was under way, and one: it has the device for itself


async def test_a_client_that_leaves_before_its_first_token_frees_its_sequence(
    stack: Served, client: AsyncOpenAI
) -> None:
    prompt = [1000 + i for i in range(4000)]  # seconds of prefill
    async with listening(stack) as events:
        other = await client.completions.create(
            model=BASE_MODEL, prompt=PROMPT, max_tokens=4000, stream=True, extra_body={"ignore_eos": True}
        )
        await anext(aiter(other))
        num_before = len(events.switches())
        asking = asyncio.create_task(client.completions.create(model=CHAT_MODEL, prompt=prompt, max_tokens=4000))
        async with asyncio.timeout(30):
            while not any(switch.model == CHAT_MODEL for switch in events.switches()[num_before:]):
                await anext(aiter(other))  # it goes on between two chunks of the prompt
        asking.cancel()
        await other.close()
        left = await events.finished(CHAT_MODEL)
        assert (left.finish_reason, left.num_output_tokens) == ("cancelled", 0)
        num_before = len(events.switches())
        await complete(client, BASE_MODEL, PROMPT, max_tokens=12)
        assert len(events.switches()) - num_before <= 2
