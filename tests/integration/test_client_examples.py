"""The example scripts, as processes, against a scripted gateway."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.broker import EmbeddedBroker
from shared import subjects
from shared.bus import NatsBus
from shared.config import BusConfig
from shared.ids import Incarnation, WorkerId
from shared.messages import ChatMessage, WorkerCame, WorkerWent
from tests.fake_gateway import FakeGateway

ROOT = Path(__file__).parents[2]


async def run(script: str, *args: str, bus: BusConfig) -> asyncio.subprocess.Process:
    environ = {"KOTTOS_BUS_URL": bus.url, "KOTTOS_BUS_USER": bus.user, "KOTTOS_BUS_PASSWORD": bus.password}
    return await asyncio.create_subprocess_exec(
        sys.executable, f"examples/{script}", *args, cwd=ROOT, env={**os.environ, **environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
async def gateway(broker: EmbeddedBroker) -> AsyncIterator[FakeGateway]:
    bus = NatsBus(broker.config("gateway"), "gateway")
    await bus.start()
    gateway = FakeGateway(bus)
    await gateway.start()
    yield gateway
    await bus.close()


async def test_generate_prints_the_text(broker: EmbeddedBroker, gateway: FakeGateway) -> None:
    process = await run("generate.py", "tiny", "hi", "--chat", "--max-tokens", "5", bus=broker.config("client"))
    call = await gateway.next_call(timeout_s=30)
    assert (call.model, call.chat, call.params.max_tokens) == ("tiny", (ChatMessage("user", "hi"),), 5)
    await gateway.send(call, gateway.piece(call, 1, "Hel", 1))
    await gateway.send(call, gateway.piece(call, 2, "lo", 2))
    await gateway.send(call, gateway.last_piece(call, 3))
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, output.decode(), errors) == (0, "Hello\n[stop: 3 + 2 tokens]\n", b"")


async def test_generate_says_what_is_wrong(broker: EmbeddedBroker) -> None:
    process = await run("generate.py", "tiny", "hi", bus=broker.config("client"))
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, output, errors.decode()) == (1, b"", "error: no gateway is running\n")


async def test_watch_events_prints_json_lines(broker: EmbeddedBroker) -> None:
    router = NatsBus(broker.config("router"), "router")
    await router.start()
    process = await run("watch_events.py", "--count", "2", bus=broker.config("client"))
    assert process.stdout is not None
    came = WorkerCame(WorkerId("worker-1"), Incarnation("life-1"))
    first_line = asyncio.create_task(process.stdout.readline())
    while not first_line.done():  # events before it listens are nobody's
        await router.publish(subjects.EVENT_WORKER_CAME, came)
        await asyncio.wait([first_line], timeout=0.05)
    assert json.loads(await first_line) == {"event": "WorkerCame", "worker": "worker-1", "incarnation": "life-1"}
    await router.publish(subjects.EVENT_WORKER_WENT, WorkerWent(WorkerId("worker-1"), Incarnation("life-1"), "gone"))
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, errors) == (0, b"")
    assert json.loads(output)["event"] in ("WorkerCame", "WorkerWent")
    await router.close()
