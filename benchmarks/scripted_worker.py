"""A worker without a model: on the bus like a real one, it answers every sequence with one token over and over."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from shared import subjects
from shared.bus import Bus
from shared.ids import Incarnation, ModelName, OwnerId, RequestId, WorkerId, new_id
from shared.messages import (
    AnyMessage,
    Assign,
    Cancel,
    Ended,
    Frame,
    ModelLoad,
    SequenceTokens,
    Submit,
    WorkerBeat,
)

_BEAT_S: Final = 0.5


@dataclass(slots=True)
class _Running:
    submit: Submit
    num_sent: int = 0


class ScriptedWorker:
    """One token per step for each of its sequences, at once upon the assignment."""

    def __init__(self, worker: WorkerId, bus: Bus, model: ModelName, token_id: int) -> None:
        self.pause_s = 0.0  # after a step
        self.assigned_at_s: dict[RequestId, float] = {}  # taken by whoever measures, as below
        self.sent_at_s: dict[RequestId, float] = {}  # when the frame with its first token was handed to the bus
        self._worker = worker
        self._incarnation = Incarnation(new_id("life"))
        self._bus = bus
        self._model = model
        self._token_id = token_id
        self._running: dict[RequestId, _Running] = {}
        self._wake = asyncio.Event()
        self._frame_numbers: dict[OwnerId, int] = defaultdict(int)
        self._num_beats = 0
        self._last_router: Incarnation | None = None
        self._last_assignment = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self._bus.start()
        await self._bus.subscribe(subjects.worker(self._worker), self._on_message)
        try:
            async with asyncio.TaskGroup() as tasks:
                loops = [tasks.create_task(self._beat()), tasks.create_task(self._steps())]
                yield
                for loop in loops:
                    loop.cancel()
        finally:
            await self._bus.close()

    def _on_message(self, message: AnyMessage) -> None:
        match message:
            case Assign(submit, router, number):
                self.assigned_at_s[submit.request_id] = time.monotonic()
                self._running[submit.request_id] = _Running(submit)
                self._last_router, self._last_assignment = router, number
                self._wake.set()
            case Cancel(request_id):
                self._running.pop(request_id, None)

    async def _steps(self) -> None:
        while True:
            await self._wake.wait()
            for owner, sequences in self._step().items():
                self._frame_numbers[owner] += 1
                frame = Frame(self._worker, self._incarnation, self._frame_numbers[owner], tuple(sequences))
                await self._bus.publish(subjects.owner(owner), frame)
            if not self._running:
                self._wake.clear()
            await asyncio.sleep(self.pause_s)

    def _step(self) -> dict[OwnerId, list[SequenceTokens]]:
        now_s = time.monotonic()
        frames: dict[OwnerId, list[SequenceTokens]] = defaultdict(list)
        for request_id, running in list(self._running.items()):
            submit, first = running.submit, running.num_sent
            running.num_sent += 1
            ended = Ended("length") if running.num_sent == submit.sampling.max_tokens else None
            if ended is not None:
                del self._running[request_id]
            if first == 0:
                self.sent_at_s[request_id] = now_s
            tokens = SequenceTokens(request_id, submit.attempt, first, (self._token_id,), ended)
            frames[submit.owner].append(tokens)
        return frames

    async def _beat(self) -> None:
        while True:
            self._num_beats += 1
            await self._bus.publish(
                subjects.BEAT_WORKER,
                WorkerBeat(
                    worker=self._worker,
                    incarnation=self._incarnation,
                    number=self._num_beats,
                    models=(ModelLoad(self._model, "resident", num_running=len(self._running)),),
                    router=self._last_router,
                    last_assignment=self._last_assignment,
                    kv_used_bytes=0,
                    kv_total_bytes=1 << 30,
                    last_frames=dict(self._frame_numbers),
                ),
            )
            await asyncio.sleep(_BEAT_S)
