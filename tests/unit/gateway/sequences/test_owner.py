"""The owner on a bus: who answers whom, and what happens when nobody does."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

from gateway.fleet.cluster import Cluster
from gateway.sequences.ledger import Ledger
from gateway.sequences.owner import Owner
from gateway.sequences.sequence import Sequence
from shared import subjects
from shared.errors import ErrorCode, RequestError
from shared.ids import Incarnation, RequestId
from shared.memory_bus import MemoryBroker, MemoryBus
from shared.messages import Accepted, Cancel, EndAck, Ended, OwnerBeat, RouterBeat, Submit
from shared.slo import ServiceLevel, Slo
from tests.recorder import Recorder
from tests.unit.gateway.builders import MODEL, OWNER, ROUTER, WORKER, beat, frame, submit, tokens

R = RequestId("r")
LEVEL = ServiceLevel(Slo(ttft_s=2.0, tbt_s=0.25), priority=-3)


@dataclass
class Office:
    owner: Owner
    ledger: Ledger
    bus: MemoryBus  # of everybody else
    woken: asyncio.Event

    def open(self) -> Sequence:
        asked = submit()
        return self.owner.open(R, MODEL, asked.prompt, asked.sampling, LEVEL, 0.0, self.woken.set)

    async def ended(self, sequence: Sequence) -> Ended | RequestError:
        async with asyncio.timeout(5):
            while sequence.ended is None:
                self.woken.clear()
                await self.woken.wait()
        return sequence.ended


@asynccontextmanager
async def opened(clock: Callable[[], float] = monotonic, max_payload_bytes: int = 1 << 20) -> AsyncIterator[Office]:
    broker = MemoryBroker(max_payload_bytes=max_payload_bytes)
    own, others = broker.connect("gateway"), broker.connect("others")
    await own.start()
    await others.start()
    ledger = Ledger(OWNER, 10.0, 16)
    owner = Owner(OWNER, own, ledger, Cluster(10.0), clock)
    async with owner.running():
        yield Office(owner, ledger, others, asyncio.Event())


async def test_a_sequence_from_submit_to_acknowledged_end() -> None:
    async with opened() as office:
        router, worker = Recorder(Accepted(R, 0, ROUTER)), Recorder()
        await office.bus.subscribe(subjects.ALL_REQUESTS, router)
        await office.bus.subscribe(subjects.worker(WORKER), worker)
        sequence = office.open()
        [sent] = await router.wait_for(1)
        assert isinstance(sent, Submit)
        assert sent.age_s > 0
        await office.bus.publish(subjects.owner(OWNER), frame(1, tokens(0, 9, ended="stop")))
        assert await office.ended(sequence) == Ended("stop")
        assert await worker.wait_for(1) == [EndAck(OWNER, (R,))]


async def test_without_a_router_it_ends_as_unavailable() -> None:
    seconds = itertools.count()
    async with opened(clock=lambda: float(next(seconds))) as office:
        ended = await office.ended(office.open())
        assert isinstance(ended, RequestError)
        assert ended.code is ErrorCode.UNAVAILABLE
        assert ended.retry_after_s
        assert len(office.ledger) == 0


async def test_a_router_that_comes_up_in_time_gets_it() -> None:
    async with opened() as office:
        office.open()
        await asyncio.sleep(0)  # the first try finds nobody
        router = Recorder(Accepted(R, 0, ROUTER))
        await office.bus.subscribe(subjects.ALL_REQUESTS, router)
        await router.wait_for(1)


async def test_a_prompt_too_large_for_the_bus() -> None:
    async with opened(max_payload_bytes=60) as office:
        await office.bus.subscribe(subjects.ALL_REQUESTS, Recorder())
        ended = await office.ended(office.open())
        assert isinstance(ended, RequestError)
        assert ended.code is ErrorCode.BODY_TOO_LARGE


async def test_a_new_router_gets_what_the_old_one_held() -> None:
    async with opened() as office:
        router = Recorder(Accepted(R, 0, ROUTER))
        await office.bus.subscribe(subjects.ALL_REQUESTS, router)
        office.open()
        async with asyncio.timeout(5):
            while office.owner.num_submitting:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await office.bus.publish(subjects.BEAT_ROUTER, RouterBeat(ROUTER))
        await office.bus.publish(subjects.BEAT_ROUTER, RouterBeat(type(ROUTER)("router-2")))
        first, second = await router.wait_for(2)
        assert isinstance(first, Submit)
        assert isinstance(second, Submit)
        assert (second.request_id, second.attempt) == (first.request_id, first.attempt)


async def test_every_attempt_counts_from_the_arrival_so_that_deadlines_stay() -> None:
    now_s = 3.0
    async with opened(clock=lambda: now_s) as office:
        router = Recorder(Accepted(R, 0, ROUTER))
        await office.bus.subscribe(subjects.ALL_REQUESTS, router)
        office.open()  # it arrived at 0: rendering and tokenizing took 3 s
        await router.wait_for(1)
        await office.bus.publish(subjects.owner(OWNER), frame(1, tokens(0, 9, 9)))
        now_s = 8.0
        await office.bus.publish(subjects.BEAT_WORKER, beat(life=Incarnation("life-2")))
        first, second = await router.wait_for(2)
        assert isinstance(first, Submit) and isinstance(second, Submit)
        assert (first.attempt, first.age_s, second.attempt, second.age_s) == (0, 3.0, 1, 8.0)
        assert second.output == (9, 9)
        for sent in (first, second):
            assert (sent.slo, sent.priority) == (LEVEL.slo, LEVEL.priority)


async def test_nothing_is_submitted_after_its_cancel() -> None:
    """Nobody answers the submit, which would be tried again."""
    async with opened() as office:
        router = Recorder(None)
        await office.bus.subscribe(subjects.ALL_REQUESTS, router)
        office.open()
        await router.wait_for(1)
        office.owner.cancel(R)
        assert [type(message) for message in await router.wait_for(2)] == [Submit, Cancel]
        assert office.owner.num_submitting == 0


async def test_it_beats_from_the_start() -> None:
    broker = MemoryBroker()
    own, others = broker.connect("gateway"), broker.connect("others")
    await own.start()
    await others.start()
    workers = Recorder()
    await others.subscribe(subjects.BEAT_OWNER, workers)
    async with Owner(OWNER, own, Ledger(OWNER, 10.0, 16), Cluster(10.0), monotonic).running():
        assert await workers.wait_for(1) == [OwnerBeat(OWNER)]
