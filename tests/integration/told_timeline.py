"""A scripted worker that tells whoever watches of two models that take turns."""

import asyncio
from typing import Final

from shared import subjects
from shared.ids import ModelName
from shared.messages import AnyMessage, StepTold, SwitchTold, Timeline, TurnTold, WorkerState
from tests.integration.gateway_harness import BASE, CHAT, Stack
from tests.integration.scripted_worker import WORKER

MIB: Final = 1 << 20


async def tell_timeline(stack: Stack) -> None:
    """From now on."""
    bus, life = stack.worker.worker_bus, stack.worker.life
    steps = tuple(StepTold(0.02 * number, 0.018, 0, 2, 2) for number in range(20))
    turns = (
        TurnTold(ModelName(CHAT), 0.9, SwitchTold("copied", 0.05, MIB), steps),
        TurnTold(ModelName(BASE), 0.45, SwitchTold("resident", 0.0, 0), steps),
    )
    resident = {ModelName(CHAT): 3 * MIB, ModelName(BASE): MIB}
    telling: set[asyncio.Task[None]] = set()

    async def tell() -> None:
        state = WorkerState(WORKER, life, "deadline", 8 * MIB, resident, 16 * MIB, resident)
        await bus.publish(subjects.TIMELINE, state)
        await bus.publish(subjects.TIMELINE, Timeline(WORKER, life, turns))

    def on_watch(message: AnyMessage) -> None:
        task = asyncio.create_task(tell())
        telling.add(task)
        task.add_done_callback(telling.discard)

    await bus.subscribe(subjects.WATCH, on_watch)
