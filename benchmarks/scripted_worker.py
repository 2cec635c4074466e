"""A worker without a model: on the bus like a real one, it answers every sequence with one token over and over."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
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
    Resend,
    SequenceTokens,
    Submit,
    WorkerBeat,
)

_BEAT_S: Final = 0.5


@dataclass(slots=True)
class _Running:
    submit: Submit
    assigned_at_s: float
    num_sent: int = 0


class ScriptedWorker:
    """One token per step for each of its sequences, at once upon the assignment unless told otherwise."""

    def __init__(self, worker: WorkerId, bus: Bus, model: ModelName, token_id: int) -> None:
        self.first_token_s = 0.0  # least time from an assignment to its first token
        self.pause_s = 0.0  # after a step
        self.period_s = 0.0  # least time from one step to the next
        self.assigned_at_s: dict[RequestId, float] = {}  # taken by whoever measures, as below
        self.sent_at_s: dict[RequestId, float] = {}  # when the frame with its first token was handed to the bus
        self.first_steps: dict[RequestId, int] = {}  # that had its first token; the next ones had the others
        self.step_at_s: list[float] = []  # when the frames of each step were handed to the bus
        self._worker = worker
        self._incarnation = Incarnation(new_id("life"))
        self._bus = bus
        self._model = model
        self._token_id = token_id
        self._running: dict[RequestId, _Running] = {}
        self._asked: list[Resend] = []
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
                self.assigned_at_s[submit.request_id] = now_s = time.monotonic()
                self._running[submit.request_id] = _Running(submit, now_s)
                self._last_router, self._last_assignment = router, number
                self._wake.set()
            case Cancel(request_id):
                self._running.pop(request_id, None)
            case Resend():
                self._asked.append(message)
                self._wake.set()

    async def _steps(self) -> None:
        while True:
            await self._wake.wait()
            began_at_s = time.monotonic()
            for owner, sequences in self._step(began_at_s).items():
                self._frame_numbers[owner] += 1
                frame = Frame(self._worker, self._incarnation, self._frame_numbers[owner], tuple(sequences))
                await self._bus.publish(subjects.owner(owner), frame)
            if not self._running:
                self._wake.clear()
            await asyncio.sleep(max(self.pause_s, self.period_s - (time.monotonic() - began_at_s)))

    def _step(self, now_s: float) -> dict[OwnerId, list[SequenceTokens]]:
        frames: dict[OwnerId, list[SequenceTokens]] = defaultdict(list)
        self.step_at_s.append(now_s)
        for request_id, running in list(self._running.items()):
            if now_s - running.assigned_at_s < self.first_token_s:
                continue
            submit, first = running.submit, running.num_sent
            running.num_sent += 1
            ended = Ended("length") if running.num_sent == submit.sampling.max_tokens else None
            if ended is not None:
                del self._running[request_id]
            if first == 0:
                self.sent_at_s[request_id] = now_s
                self.first_steps[request_id] = len(self.step_at_s) - 1
            tokens = SequenceTokens(request_id, submit.attempt, first, (self._token_id,), ended)
            frames[submit.owner].append(tokens)
        for owner, again in self._say_again():
            frames[owner].append(again)
        return frames

    def _say_again(self) -> Iterator[tuple[OwnerId, SequenceTokens]]:
        """Also to who has missed nothing: it asked because it heard nothing."""
        asked, self._asked = self._asked, []
        for resend in asked:
            if running := self._running.get(resend.request_id):
                missing = (self._token_id,) * (running.num_sent - resend.first)
                yield resend.owner, SequenceTokens(resend.request_id, resend.attempt, resend.first, missing)

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
