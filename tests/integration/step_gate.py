"""Holds a worker before each step, so that a test decides what arrives when."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from gpu_worker.execution.executor import Executor, PartOutput, StepPart
from gpu_worker.execution.streaming import Stream

TIMEOUT_S = 30.0
_MANY = 1_000_000


class StepGate:
    def __init__(self) -> None:
        self.num_steps = 0  # that arrived
        self._permits = threading.Semaphore(0)
        self._arrived: asyncio.Queue[Sequence[StepPart]] = asyncio.Queue()

    async def arrival(self) -> Sequence[StepPart]:
        """The parts of the step that stands at the gate, when one does."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self._arrived.get()

    def let(self, num_steps: int = 1) -> None:
        self._permits.release(num_steps)

    def open(self) -> None:
        self.let(_MANY)

    def pass_through(self, loop: asyncio.AbstractEventLoop, parts: Sequence[StepPart]) -> None:
        """On the device thread."""
        self.num_steps += 1
        loop.call_soon_threadsafe(self._arrived.put_nowait, parts)
        self._permits.acquire()


@asynccontextmanager
async def gated_steps(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StepGate]:
    """Of every worker in this process; on leaving all steps run."""
    gate, loop, original = StepGate(), asyncio.get_running_loop(), Executor.step

    def step(executor: Executor, parts: Sequence[StepPart], stream: Stream | None = None) -> list[PartOutput]:
        gate.pass_through(loop, parts)
        return original(executor, parts, stream)

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "step", step)
        try:
            yield gate
        finally:
            gate.open()
