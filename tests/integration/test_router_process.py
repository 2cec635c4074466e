"""`python -m router` on a real NATS server, with the bus users' permissions."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
import pytest

from cli.broker import EmbeddedBroker
from shared import subjects
from shared.bus import NatsBus
from shared.config import BusConfig, Config, to_environ
from shared.errors import NoResponders
from shared.ids import Incarnation, ModelName, OwnerId, RequestId, WorkerId
from shared.messages import (
    Accepted,
    AnyMessage,
    Assign,
    Assigned,
    Cancel,
    Message,
    ModelLoad,
    RouterBeat,
    Sampling,
    SetLogLevel,
    Submit,
    WorkerBeat,
    WorkerCame,
)

MODEL, OWNER, WORKER = ModelName("Any/Model:1"), OwnerId("owner-1"), WorkerId("worker-0")
BEAT = WorkerBeat(WORKER, Incarnation("life-1"), 1, (ModelLoad(MODEL, "cached"),), None, 0, 0, 0, {})
SUBMIT = Submit(RequestId("r"), 0, OWNER, MODEL, (1, 2, 3), Sampling(max_tokens=4, seed=1))

M = TypeVar("M", bound=Message)


class Ear:
    """A bus of one service, and what arrives there."""

    def __init__(self, config: BusConfig) -> None:
        self.bus = NatsBus(config, config.user)
        self.messages: asyncio.Queue[AnyMessage] = asyncio.Queue()

    async def hears(self, *patterns: str) -> None:
        await self.bus.start()
        for pattern in patterns:
            await self.bus.subscribe(pattern, self.messages.put_nowait)

    async def next(self, kind: type[M]) -> M:
        """The next of this kind; others are passed over."""
        async with asyncio.timeout(30):
            while not isinstance(message := await self.messages.get(), kind):
                pass
            return message


@asynccontextmanager
async def router_process(config: BusConfig) -> AsyncIterator[asyncio.subprocess.Process]:
    environ = os.environ | to_environ(Config(bus=config))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "router", env=environ, stderr=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def beating(bus: NatsBus) -> AsyncIterator[None]:
    """A live worker, though an impatient one."""

    async def beat() -> None:
        while True:
            await bus.publish(subjects.BEAT_WORKER, BEAT)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def ears(broker: EmbeddedBroker) -> AsyncIterator[tuple[Ear, Ear, Ear]]:
    """A gateway, a worker and an internal service."""
    gateway, worker, client = (Ear(broker.config(user)) for user in ("gateway", "worker", "client"))
    await gateway.hears(subjects.owner(OWNER), subjects.BEAT_ROUTER)
    await worker.hears(subjects.worker(WORKER))
    await client.hears(subjects.EVENTS)
    yield gateway, worker, client
    for ear in (gateway, worker, client):
        await ear.bus.close()


async def test_request_and_cancel_reach_the_worker_and_sigterm_ends_the_router(
    broker: EmbeddedBroker, ears: tuple[Ear, Ear, Ear]
) -> None:
    gateway, worker, client = ears
    async with router_process(broker.config("router")) as process, beating(worker.bus):
        router = (await gateway.next(RouterBeat)).router
        assert await client.next(WorkerCame) == WorkerCame(WORKER, BEAT.incarnation)
        assert await gateway.bus.request(subjects.request(MODEL), SUBMIT, 10) == Accepted(SUBMIT.request_id, 0, router)
        assert await gateway.next(Assigned) == Assigned(SUBMIT.request_id, 0, WORKER, BEAT.incarnation)
        assign = await worker.next(Assign)
        assert msgspec.structs.replace(assign.submit, age_s=0.0) == SUBMIT and assign.router == router
        await gateway.bus.publish(subjects.CONTROL_LOG, SetLogLevel("router.service", "debug", router))
        cancel = Cancel(SUBMIT.request_id, 0, OWNER, MODEL)
        await gateway.bus.publish(subjects.request(MODEL), cancel)
        assert await worker.next(Cancel) == cancel
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        assert process.stderr is not None
        assert b"the level of 'router.service' is now debug" in await process.stderr.read()
    with pytest.raises(NoResponders):
        await gateway.bus.request(subjects.request(MODEL), SUBMIT, 5)


async def test_a_new_router_takes_over_from_a_killed_one(broker: EmbeddedBroker, ears: tuple[Ear, Ear, Ear]) -> None:
    gateway, worker, _ = ears
    async with router_process(broker.config("router")):
        first = (await gateway.next(RouterBeat)).router
    async with router_process(broker.config("router")), beating(worker.bus):
        while (second := (await gateway.next(RouterBeat)).router) == first:
            pass
        assert await gateway.bus.request(subjects.request(MODEL), SUBMIT, 10) == Accepted(SUBMIT.request_id, 0, second)
        assert (await worker.next(Assign)).router == second


async def test_no_server_is_said_without_a_secret() -> None:
    config = BusConfig(url="nats://127.0.0.1:1", user="router", password="sesame")
    async with router_process(config) as process:
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"127.0.0.1:1" in errors and b"sesame" not in errors and b"Traceback" not in errors
