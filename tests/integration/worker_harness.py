"""A real worker over the in-memory bus, spoken to as its router and as an owner would."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from unittest.mock import patch

import msgspec

from gpu_worker import service as service_module
from gpu_worker.service import WorkerService
from shared import subjects
from shared.catalogue import described
from shared.config import Config, ModelSource
from shared.ids import Incarnation, ModelName, OwnerId, RequestId, WorkerId
from shared.memory_bus import MemoryBroker, MemoryBus
from shared.messages import (
    AnyMessage,
    Assign,
    Cancel,
    Catalogue,
    EndAck,
    Ended,
    Frame,
    LoadModel,
    Message,
    ModelSwitched,
    OwnerBeat,
    Resend,
    Sampling,
    SequenceTokens,
    Submit,
    TokenLogprobs,
    UnloadModel,
    WorkerBeat,
)
from shared.telemetry import Registry
from shared.tracing import Tracer

WORKER = WorkerId("worker-0")
OWNER = OwnerId("owner-0")
ROUTER = Incarnation("router-0")
STEWARD = Incarnation("steward-0")
TIMEOUT_S = 60.0
BEAT_S = 0.03  # tests wait for beats more often than routers do


@dataclass
class Stream:
    """What an owner heard of one request."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    ended: Ended | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Harness:
    def __init__(self, bus: MemoryBus, broker: MemoryBroker) -> None:
        self.bus = bus
        self.broker = broker
        self.streams: dict[RequestId, Stream] = {}
        self.frames: list[Frame] = []
        self.switches: list[ModelSwitched] = []
        self.beat: WorkerBeat | None = None
        self.registry = Registry()
        self.acknowledge = True
        self.service: WorkerService
        self._num_catalogues = 0
        self._beats: asyncio.Condition = asyncio.Condition()
        self._num_assigned = 0

    async def submit(
        self,
        model: str,
        prompt: Sequence[int],
        num_tokens: int,
        *,
        output: Sequence[int] = (),
        attempt: int = 0,
        request_id: str | None = None,
        tenant: str = "",
        traceparent: str = "",
        **sampling: object,
    ) -> RequestId:
        self._num_assigned += 1
        request_id = RequestId(request_id or f"request-{self._num_assigned}")
        self.streams[request_id] = Stream()
        settings = Sampling(**{"max_tokens": num_tokens, "seed": 0, "temperature": 0.0, **sampling})  # type: ignore[arg-type]
        known = tuple(prompt), settings, tuple(output)
        message = Submit(request_id, attempt, OWNER, ModelName(model), *known, tenant=tenant, traceparent=traceparent)
        await self.bus.publish(subjects.worker(WORKER), Assign(message, ROUTER, self._num_assigned))
        return request_id

    async def finish(self, request_id: RequestId) -> Stream:
        stream = self.streams[request_id]
        async with asyncio.timeout(TIMEOUT_S):
            await stream.done.wait()
        return stream

    async def run_all(self, requests: Sequence[tuple[ModelSource, Sequence[int], int]]) -> list[list[int]]:
        """Submits all at once -> the tokens of each."""
        ids = [await self.submit(source.name, prompt, num) for source, prompt, num in requests]
        return [(await self.finish(request_id)).tokens for request_id in ids]

    async def serve(self, sources: Sequence[ModelSource], *, pinned: str = "", drained: bool = False) -> None:
        """From now on these, as a steward would say it. pinned: the name of one of them."""
        self._num_catalogues += 1
        models = tuple(msgspec.structs.replace(model, pinned=model.name == pinned) for model in described(sources))
        catalogue = Catalogue(STEWARD, self._num_catalogues, models, (WORKER,) if drained else ())
        await self.bus.publish(subjects.CATALOGUE, catalogue)

    async def order(self, order: LoadModel | UnloadModel) -> Message:
        """As a gateway on behalf of an operator -> the answer."""
        return await self.bus.request(subjects.worker(WORKER), order, TIMEOUT_S)

    async def cancel(self, request_id: RequestId, model: str, attempt: int = 0) -> None:
        message = Cancel(request_id, attempt, OWNER, ModelName(model), WORKER)
        await self.bus.publish(subjects.worker(WORKER), message)

    async def acknowledge_end(self, request_id: RequestId) -> None:
        await self.bus.publish(subjects.worker(WORKER), EndAck(OWNER, (request_id,)))

    async def resend(self, request_id: RequestId, first: int, attempt: int = 0, first_prompt_logprob: int = 0) -> None:
        message = Resend(OWNER, request_id, attempt, first, first_prompt_logprob)
        await self.bus.publish(subjects.worker(WORKER), message)

    async def tokens(self, request_id: RequestId, num: int) -> None:
        """Waits until the stream has so many."""
        stream = self.streams[request_id]
        async with asyncio.timeout(TIMEOUT_S):
            while len(stream.tokens) < num:
                stream.changed.clear()
                await stream.changed.wait()

    async def beats(self, num: int = 1) -> WorkerBeat:
        """Waits for `num` more beats -> the last."""
        async with asyncio.timeout(TIMEOUT_S), self._beats:
            for _ in range(num):
                await self._beats.wait()
        assert self.beat is not None
        return self.beat

    async def beat_where(self, condition: Callable[[WorkerBeat], bool]) -> WorkerBeat:
        """The next beat of which the condition is true."""
        while not condition(beat := await self.beats()):
            pass
        return beat

    def on_message(self, message: AnyMessage) -> None:
        match message:
            case Frame():
                self.frames.append(message)
                for entry in message.sequences:
                    self._on_tokens(entry)
            case ModelSwitched():
                self.switches.append(message)
            case WorkerBeat():
                self.beat = message
                asyncio.get_running_loop().create_task(self._notify())

    def _on_tokens(self, entry: SequenceTokens) -> None:
        stream = self.streams[entry.request_id]
        num_known = len(stream.tokens) - entry.first
        if num_known < 0:  # a frame was lost; whoever wants the tokens asks again
            return
        stream.tokens += entry.token_ids[num_known:]
        stream.logprobs += entry.logprobs[num_known:]
        if (prompt := entry.prompt_logprobs) is not None:
            stream.prompt_logprobs += prompt.tokens[len(stream.prompt_logprobs) - prompt.first :]
        stream.changed.set()
        if entry.ended is not None:
            stream.ended = entry.ended
            stream.done.set()
            if self.acknowledge:
                asyncio.get_running_loop().create_task(self.acknowledge_end(entry.request_id))

    async def _notify(self) -> None:
        async with self._beats:
            self._beats.notify_all()


@contextlib.asynccontextmanager
async def running_worker(
    config: Config,
    *,
    owner_beats: bool = True,
    num_refused: int = 0,
    broker: MemoryBroker | None = None,
    tracer: Tracer | None = None,
) -> AsyncIterator[Harness]:
    """The worker with all its models loaded, but for those that it refuses. On a broker of its own if none is given."""
    broker = broker or MemoryBroker()
    worker_bus, bus = broker.connect("worker"), broker.connect("owner")
    await worker_bus.start()
    await bus.start()
    harness = Harness(bus, broker)
    for subject in (subjects.owner(OWNER), subjects.BEAT_WORKER, subjects.EVENT_MODEL_SWITCHED):
        await bus.subscribe(subject, harness.on_message)
    service = harness.service = WorkerService(config, WORKER, worker_bus, harness.registry, tracer=tracer)
    beating = patch.object(service_module, "BEAT_S", BEAT_S)
    beating.start()
    tasks = [asyncio.create_task(service.run(asyncio.Event()))]
    if owner_beats:
        tasks.append(asyncio.create_task(_beat(bus)))
    try:
        await harness.beat_where(
            lambda beat: (
                sum(load.state in ("cached", "resident") for load in beat.models) == len(beat.models) - num_refused
            )
        )
        yield harness
        assert not tasks[0].done(), tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        beating.stop()
        await worker_bus.close()
        await bus.close()


async def _beat(bus: MemoryBus) -> None:
    while True:
        await bus.publish(subjects.BEAT_OWNER, OwnerBeat(OWNER))
        await asyncio.sleep(1.0)
