import asyncio

import pytest

from gpu_worker import broadcast as module
from gpu_worker.broadcast import STATE_S, Broadcast
from gpu_worker.timeline import WATCH_S, TimelineRing
from shared import subjects
from shared.ids import ModelName
from shared.memory_bus import MemoryBroker
from shared.messages import StepTold, Timeline, TurnTold, Watch, WorkerState
from tests.recorder import Recorder
from tests.unit.gpu_worker.stand_ins import LIFE, WORKER

A = ModelName("a")
STATE = WorkerState(WORKER, LIFE, "deadline", 100, {}, 200, {})


async def test_it_tells_of_steps_and_twice_a_second_of_its_state_until_a_watch_lapses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 0.0)
    now_s, ring, heard, broker = 0.0, TimelineRing(), Recorder(), MemoryBroker()
    bus = broker.connect()
    await bus.start()
    await bus.subscribe(subjects.TIMELINE, heard)
    broadcast = Broadcast(WORKER, LIFE, bus, ring, lambda: STATE, lambda: now_s)
    telling = asyncio.create_task(broadcast.run())
    broadcast.on_message(Watch())
    assert await heard.wait_for(1) == [STATE]
    ring.stepped(A, -1.0, 0.5, 0, 1, 1)
    assert (await heard.wait_for(2))[1:] == [
        Timeline(WORKER, LIFE, (TurnTold(A, 1.0, None, (StepTold(0.0, 0.5, 0, 1, 1),)),))
    ]
    now_s = STATE_S
    assert (await heard.wait_for(3))[2:] == [STATE]
    now_s = WATCH_S
    for _ in range(100):  # rounds of the event loop
        await asyncio.sleep(0)
    assert not ring.is_watched
    num_heard = len(heard.messages)
    now_s = WATCH_S + 10.0
    broadcast.on_message(Watch())
    assert len(await heard.wait_for(num_heard + 1)) == num_heard + 1  # it tells again, from its state on
    telling.cancel()
    await asyncio.wait([telling])
    await bus.close()
