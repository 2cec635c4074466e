"""When workers are asked to tell of what they do."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gateway.fleet.cluster import Cluster
from gateway.fleet.watched_workers import WatchedWorkers
from gateway.http.admin import feed as module
from gateway.http.admin.feed import Feed
from gateway.http.admin.feed_objects import FeedState
from shared import subjects
from shared.memory_bus import MemoryBroker
from tests.recorder import Recorder
from tests.unit.gateway.builders import OWNER

NUM_ROUNDS = 200  # of the event loop: many ticks


class StubModels:
    def entries(self) -> dict[str, Any]:
        return {}


class StubPresent:
    """Of a gateway that knows nothing."""

    def __init__(self) -> None:
        self.cluster = Cluster(worker_dead_s=10.0)
        self.models = StubModels()
        self.num_failures = 0  # to come

    def state(self, workers: WatchedWorkers, num_viewers: int, at_s: float, now_s: float) -> FeedState:
        if self.num_failures:
            self.num_failures -= 1
            raise RuntimeError("a bug")
        return FeedState(at_s, OWNER, [], [], [], 0, num_viewers)


@asynccontextmanager
async def opened(present: StubPresent) -> AsyncIterator[tuple[Feed, Recorder, MemoryBroker]]:
    """With what workers hear."""
    broker, asked = MemoryBroker(), Recorder()
    bus, worker_bus = broker.connect("gateway"), broker.connect("worker")
    for each in (bus, worker_bus):
        await each.start()
    await worker_bus.subscribe(subjects.WATCH, asked)
    feed = Feed(bus, cast(Any, present), lambda: 5.0)
    async with feed.running():
        yield feed, asked, broker


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TICK_S", "_PAUSE_S"):
        monkeypatch.setattr(module, name, 0.0)


async def rounds() -> None:
    for _ in range(NUM_ROUNDS):
        await asyncio.sleep(0)


async def grows(number: Callable[[], int]) -> bool:
    before = number()
    await rounds()
    return number() > before


async def test_workers_are_asked_while_somebody_watches_and_no_longer() -> None:
    async with opened(StubPresent()) as (feed, asked, broker):
        await rounds()
        assert asked.messages == []
        with feed.watching():
            with feed.watching():
                await asked.wait_for(2)
            assert await grows(lambda: len(asked.messages))
            assert broker.route(subjects.TIMELINE, b"", reply_to=None)
        await rounds()
        assert not await grows(lambda: len(asked.messages))
        assert not broker.route(subjects.TIMELINE, b"", reply_to=None)  # nobody listens
        with feed.watching():
            assert await grows(lambda: len(asked.messages))


async def test_a_failure_of_it_ends_neither_the_gateway_nor_the_feed() -> None:
    present = StubPresent()
    async with opened(present) as (feed, asked, _):
        with feed.watching() as viewer:
            present.num_failures = 2
            await asked.wait_for(5)
            assert present.num_failures == 0
            await viewer.next(timeout_s=1.0)
            assert b'"type":"state"' in (await viewer.next(timeout_s=1.0))[0]
