import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from router.dispatch import SETTLE_S
from router.service import INBOX_RESERVE, MAX_INBOX, Router
from shared import subjects
from shared.bus import Bus
from shared.config import RouterConfig
from shared.errors import BusUnavailable, ErrorCode, MessageTooLarge
from shared.memory_bus import MemoryBroker, MemoryBus
from shared.messages import Accepted, AnyMessage, Assign, Assigned, Cancel, Message, Refused, RouterBeat, WorkerCame
from tests.unit.router.builders import ROUTER, beat, cancel, submit

OWNER = subjects.owner(submit().owner)
WORKER = subjects.worker(beat().worker)
REQUEST = subjects.request(submit().model)


class Ear:
    """What arrives on a subject, in order."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[AnyMessage] = asyncio.Queue()

    @classmethod
    async def on(cls, bus: Bus, subject: str) -> "Ear":
        ear = cls()
        await bus.subscribe(subject, ear._messages.put_nowait)
        return ear

    async def next(self) -> AnyMessage:
        async with asyncio.timeout(5):
            return await self._messages.get()


@asynccontextmanager
async def running(bus: Bus, config: RouterConfig | None = None, settle_s: float = 0.0) -> AsyncIterator[Router]:
    """Listens when the body begins: its first beat, which the body does not see, is sent after."""
    router = Router(bus, config or RouterConfig(), ROUTER, settle_s=settle_s)
    stopping = asyncio.Event()
    task = asyncio.create_task(router.run(stopping))
    beats = await Ear.on(bus, subjects.BEAT_ROUTER)
    assert await beats.next() == RouterBeat(ROUTER)
    yield router
    stopping.set()
    async with asyncio.timeout(5):
        await task


@pytest.fixture
async def broker() -> MemoryBroker:
    return MemoryBroker()


async def started(broker: MemoryBroker) -> MemoryBus:
    bus = broker.connect()
    await bus.start()
    return bus


async def test_request_goes_to_a_worker_and_its_cancel_follows(broker: MemoryBroker) -> None:
    bus = await started(broker)
    owner, worker = await Ear.on(bus, OWNER), await Ear.on(bus, WORKER)
    events = await Ear.on(bus, subjects.EVENTS)
    async with running(await started(broker)):
        await bus.publish(subjects.BEAT_WORKER, beat())
        assert isinstance(await events.next(), WorkerCame)
        assert await bus.request(REQUEST, submit("r"), 5) == Accepted(submit("r").request_id, 0, ROUTER)
        assert isinstance(await owner.next(), Assigned)
        assert await worker.next() == Assign(submit("r"), ROUTER, 1)
        await bus.publish(REQUEST, cancel("r"))
        assert await worker.next() == cancel("r")


async def test_submit_and_cancel_at_once_arrive_in_order(broker: MemoryBroker) -> None:
    bus = await started(broker)
    worker = await Ear.on(bus, WORKER)
    async with running(await started(broker)):
        await bus.publish(subjects.BEAT_WORKER, beat())
        for i in range(50):
            await bus.publish(REQUEST, submit(f"r{i}"))
            await bus.publish(REQUEST, cancel(f"r{i}"))
        kinds = [type(await worker.next()) for _ in range(100)]
        assert kinds == [Assign, Cancel] * 50


async def test_held_request_is_refused_in_time(broker: MemoryBroker) -> None:
    bus = await started(broker)
    owner = await Ear.on(bus, OWNER)
    async with running(await started(broker), RouterConfig(hold_timeout_s=0.01)):
        assert isinstance(await bus.request(REQUEST, submit("r"), 5), Accepted)
        refused = await owner.next()
        assert isinstance(refused, Refused) and refused.code == ErrorCode.UNAVAILABLE and refused.retry_after_s


async def test_new_router_holds_until_it_has_heard_everybody(broker: MemoryBroker) -> None:
    bus = await started(broker)
    owner = await Ear.on(bus, OWNER)
    now_s = 0.0
    router = Router(await started(broker), RouterConfig(), ROUTER, clock=lambda: now_s)
    stopping = asyncio.Event()
    task = asyncio.create_task(router.run(stopping))
    events = await Ear.on(bus, subjects.EVENTS)
    router.receive(beat("w0"))
    router.receive(submit("r"))
    router.receive(beat("w1"))
    assert [type(await events.next()) for _ in range(2)] == [WorkerCame, WorkerCame]
    now_s = SETTLE_S
    router.receive(beat("w1", load=5))
    assigned = await owner.next()
    assert isinstance(assigned, Assigned) and assigned.worker == beat("w0").worker
    stopping.set()
    await task


def test_full_inbox_refuses_submits_and_keeps_room_for_the_rest() -> None:
    router = Router(MemoryBroker().connect(), RouterConfig(), ROUTER)
    answers = [router.receive(submit(f"r{i}")) for i in range(MAX_INBOX - INBOX_RESERVE + 1)]
    assert all(isinstance(answer, Accepted) for answer in answers[:-1])
    refused = answers[-1]
    assert isinstance(refused, Refused) and refused.code == ErrorCode.OVERLOADED and refused.retry_after_s
    for i in range(INBOX_RESERVE + 1):  # the last one is lost, without an error
        assert router.receive(cancel(f"r{i}")) is None


class FailingBus(MemoryBus):
    """Fails to publish the first Assign."""

    failure: Exception | None = None

    async def publish(self, subject: str, message: Message) -> None:
        if isinstance(message, Assign) and self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        await super().publish(subject, message)


async def failing(broker: MemoryBroker, failure: Exception) -> FailingBus:
    bus = FailingBus(broker, "router")
    bus.failure = failure
    await bus.start()
    return bus


async def test_assignment_waits_when_the_bus_is_down(broker: MemoryBroker) -> None:
    bus = await started(broker)
    worker = await Ear.on(bus, WORKER)
    owner = await Ear.on(bus, OWNER)
    async with running(await failing(broker, BusUnavailable("full"))):
        await bus.publish(subjects.BEAT_WORKER, beat())
        await bus.publish(REQUEST, submit("r"))
        assert isinstance(await owner.next(), Assigned)
        await bus.publish(subjects.BEAT_WORKER, beat())
        assign = await worker.next()
        assert isinstance(assign, Assign) and assign.submit.request_id == "r"


async def test_assignment_that_is_too_large_is_refused(broker: MemoryBroker) -> None:
    bus = await started(broker)
    owner = await Ear.on(bus, OWNER)
    async with running(await failing(broker, MessageTooLarge(9, 8))):
        await bus.publish(subjects.BEAT_WORKER, beat())
        await bus.publish(REQUEST, submit("r"))
        assert isinstance(await owner.next(), Assigned)
        refused = await owner.next()
        assert isinstance(refused, Refused) and refused.code == ErrorCode.CONTEXT_LENGTH_EXCEEDED


class SlowBus(MemoryBus):
    async def publish(self, subject: str, message: Message) -> None:
        await asyncio.sleep(0)
        await super().publish(subject, message)


async def test_what_was_accepted_is_sent_before_it_stops(broker: MemoryBroker) -> None:
    bus = await started(broker)
    worker = await Ear.on(bus, WORKER)
    slow = SlowBus(broker, "router")
    await slow.start()
    async with running(slow) as router:
        router.receive(beat())
        for i in range(100):
            router.receive(submit(f"r{i}"))
    assert [type(await worker.next()) for _ in range(100)] == [Assign] * 100
