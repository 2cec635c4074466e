"""A worker without gateway and router: its service on an in-memory bus, and an owner that remembers what runs only."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from gpu_worker.service import WorkerService
from shared import subjects
from shared.config import Config
from shared.ids import Incarnation, ModelName, OwnerId, RequestId, WorkerId
from shared.memory_bus import MemoryBroker, MemoryBus
from shared.messages import (
    AnyMessage,
    Assign,
    Cancel,
    EndAck,
    Ended,
    Frame,
    ModelSwitched,
    OwnerBeat,
    Sampling,
    Submit,
    WorkerBeat,
)
from shared.slo import Slo

_WORKER: Final = WorkerId("worker-0")
_OWNER: Final = OwnerId("owner-0")
_ROUTER: Final = Incarnation("router-0")
_BEAT_S: Final = 1.0
_SLO: Final = Slo()


@dataclass(eq=False, slots=True)
class Request:
    """One sequence as its owner sees it."""

    request_id: RequestId
    model: ModelName
    submitted_at_s: float
    token_at_s: list[float] = field(default_factory=list)  # when the frame with each token arrived
    ended: Ended | None = None
    has_tokens: asyncio.Event = field(default_factory=asyncio.Event)
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ttft_s(self) -> float:
        """From the assignment's publication to the arrival of the frame with the first token."""
        return self.token_at_s[0] - self.submitted_at_s


class BareWorker:
    """What its owner says and hears. Nothing is kept of a request that has ended."""

    def __init__(self, bus: MemoryBus) -> None:
        self.num_switches: Counter[str] = Counter()  # by kind
        self._bus = bus
        self._requests: dict[RequestId, Request] = {}
        self._num_submitted = 0
        self._is_loaded = asyncio.Event()
        self._last_switch: ModelSwitched | None = None
        self._has_switched = asyncio.Event()

    async def until_loaded(self) -> None:
        await self._is_loaded.wait()

    async def submit(self, model: ModelName, prompt: Sequence[int], num_tokens: int, slo: Slo = _SLO) -> Request:
        """Greedy, past end tokens."""
        self._num_submitted += 1
        request_id = RequestId(f"request-{self._num_submitted}")
        sampling = Sampling(max_tokens=num_tokens, seed=0, temperature=0.0)
        message = Submit(request_id, 0, _OWNER, model, tuple(prompt), sampling, slo=slo)
        request = self._requests[request_id] = Request(request_id, model, time.perf_counter())
        await self._bus.publish(subjects.worker(_WORKER), Assign(message, _ROUTER, self._num_submitted))
        return request

    async def finish(self, request: Request) -> Ended:
        """Waits for its end and acknowledges it. Raises RuntimeError where that is an error."""
        await request.has_ended.wait()
        await self._bus.publish(subjects.worker(_WORKER), EndAck(_OWNER, (request.request_id,)))
        assert request.ended is not None
        if request.ended.reason == "error":
            raise RuntimeError(f"{request.model}: {request.ended.message}")
        return request.ended

    async def cancel(self, request: Request) -> None:
        message = Cancel(request.request_id, 0, _OWNER, request.model, _WORKER)
        await self._bus.publish(subjects.worker(_WORKER), message)

    async def switch_to(self, model: ModelName) -> ModelSwitched:
        """The last switch, once it is one to this model."""
        while self._last_switch is None or self._last_switch.model != model:
            self._has_switched.clear()
            await self._has_switched.wait()
        return self._last_switch

    async def beat(self) -> None:
        while True:
            await self._bus.publish(subjects.BEAT_OWNER, OwnerBeat(_OWNER))
            await asyncio.sleep(_BEAT_S)

    def on_message(self, message: AnyMessage) -> None:
        match message:
            case Frame(sequences=entries):
                now_s = time.perf_counter()
                for entry in entries:
                    request = self._requests[entry.request_id]
                    if entry.token_ids:
                        request.token_at_s += [now_s] * len(entry.token_ids)
                        request.has_tokens.set()
                    if entry.ended is not None:
                        request.ended = entry.ended
                        request.has_ended.set()
                        del self._requests[entry.request_id]
            case ModelSwitched():
                self._last_switch = message
                self._has_switched.set()
                self.num_switches[message.kind] += 1
            case WorkerBeat(models=models) if all(model.state in ("cached", "resident") for model in models):
                self._is_loaded.set()


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[BareWorker]:
    """With all its models loaded."""
    broker = MemoryBroker()
    worker_bus, bus = broker.connect("worker"), broker.connect("owner")
    await worker_bus.start()
    await bus.start()
    worker = BareWorker(bus)
    for subject in (subjects.owner(_OWNER), subjects.BEAT_WORKER, subjects.EVENT_MODEL_SWITCHED):
        await bus.subscribe(subject, worker.on_message)
    stopping = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(WorkerService(config, _WORKER, worker_bus).run(stopping))
            beats = tasks.create_task(worker.beat())
            await worker.until_loaded()
            yield worker
            stopping.set()
            beats.cancel()
    finally:
        await worker_bus.close()
        await bus.close()
