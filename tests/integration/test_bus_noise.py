"""Whatever arrives on the bus, a gateway, a router and a worker serve on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import pytest

from cli.broker import EmbeddedBroker
from shared import subjects
from shared.bus import NatsBus
from shared.client import KottosClient
from shared.config import Config, GatewayConfig, RouterConfig
from shared.ids import ModelName
from shared.messages import (
    Accepted,
    AddModel,
    AskCatalogue,
    Assign,
    Assigned,
    Cancel,
    CancelCall,
    ClientBeat,
    EndAck,
    Frame,
    Generate,
    Message,
    OwnerBeat,
    Refused,
    Resend,
    RouterBeat,
    Submit,
    WorkerBeat,
)
from tests.absurd import Absurd
from tests.integration.gateway_harness import BASE, encode, make_config
from tests.integration.scripted_worker import WORKER as SCRIPTED
from tests.integration.scripted_worker import ScriptedWorker
from tests.integration.test_gateway_process import gateway_process
from tests.integration.test_router_process import BEAT, MODEL, OWNER, SUBMIT, WORKER, Ear, beating, router_process
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import WORKER as REAL_WORKER
from tests.integration.worker_harness import running_worker

NUM_MESSAGES: Final = 500
ANY: Final = (Submit, Assign, Cancel, Frame, EndAck, Resend, WorkerBeat, OwnerBeat, Generate, AddModel, AskCatalogue)
NONE: Final[Sequence[type[Message]]] = ()  # a catalogue that is well-formed is obeyed: bytes only

Send = Callable[[bytes], Awaitable[None]]


async def make_noise(ways: Mapping[str, tuple[Send, Sequence[type[Message]]]], texts: Sequence[str]) -> None:
    """ways: subject -> how to send there, and the kinds of message that are expected there."""
    absurd = Absurd(seed=1, texts=texts)
    for _ in range(NUM_MESSAGES):
        for send, kinds in ways.values():
            await send(absurd.payload((*kinds, *kinds, *kinds, *ANY) if kinds else ANY))
        await asyncio.sleep(0)


def sender(bus: NatsBus, subject: str) -> Send:
    async def send(payload: bytes) -> None:
        client = bus._client
        assert client is not None
        await client.publish(subject, payload)

    return send


@asynccontextmanager
async def log_read(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """Or it would wait for somebody to read it."""
    assert process.stderr is not None
    reading = asyncio.create_task(process.stderr.read())
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.wait([reading])


async def test_a_router_serves_on(broker: EmbeddedBroker) -> None:
    gateway, worker = Ear(broker.config("gateway")), Ear(broker.config("worker"))
    await gateway.hears(subjects.owner(OWNER), subjects.BEAT_ROUTER)
    await worker.hears(subjects.worker(WORKER))
    async with (
        router_process(broker.config("router")) as process,
        log_read(process),
        beating(worker.bus),
    ):
        router = (await gateway.next(RouterBeat)).router
        ways = {
            "request": (sender(gateway.bus, "kottos.request.noise"), (Submit, Cancel)),
            "beat": (sender(worker.bus, subjects.BEAT_WORKER), (WorkerBeat,)),
        }
        await make_noise(ways, [WORKER, OWNER, BEAT.incarnation, router])
        async with asyncio.timeout(30):
            answer = await gateway.bus.request(subjects.request(MODEL), SUBMIT, 10)
            assert answer == Accepted(SUBMIT.request_id, 0, router)  # it is the same one
            while (await gateway.next(Assigned)).request_id != SUBMIT.request_id:
                pass
            while (await worker.next(Assign)).submit.request_id != SUBMIT.request_id:
                pass
        assert process.returncode is None
    for ear in (gateway, worker):
        await ear.bus.close()


async def test_a_gateway_serves_on(tmp_path: Path, broker: EmbeddedBroker) -> None:
    made = make_config(tmp_path, GatewayConfig(port=0))
    config: Config = msgspec.structs.replace(made, bus=broker.config("gateway"), router=RouterConfig(worker_dead_s=1.0))
    buses = {user: NatsBus(broker.config(user), user) for user in ("router", "worker", "client", "steward")}
    worker = ScriptedWorker(bus=buses["router"], worker_bus=buses["worker"], models=(ModelName(BASE),))
    worker.answer = lambda submit: [*encode("fox dog"), 1] if submit.model == BASE else None
    for user in ("client", "steward"):
        await buses[user].start()
    async with (
        worker.running(),
        gateway_process(config) as running,
        log_read(running.process),
        aiohttp.ClientSession(running.url) as http,
    ):
        assert b"fox dog" in await ask(http)
        [submit] = await worker.wait_for(Submit)
        owner, bus = subjects.owner(submit.owner), buses
        ways = {
            "frames": (sender(bus["worker"], owner), (Frame,)),
            "answers": (sender(bus["router"], owner), (Assigned, Refused)),
            "workers": (sender(bus["worker"], subjects.BEAT_WORKER), (WorkerBeat,)),
            "routers": (sender(bus["router"], subjects.BEAT_ROUTER), (RouterBeat,)),
            "calls": (sender(bus["client"], subjects.CALL), (Generate,)),
            "gateway": (sender(bus["client"], subjects.gateway(submit.owner)), (CancelCall,)),
            "clients": (sender(bus["client"], subjects.BEAT_CLIENT), (ClientBeat,)),
            "catalogue": (sender(bus["steward"], subjects.CATALOGUE), NONE),
        }
        await make_noise(ways, [submit.owner, submit.request_id, SCRIPTED, BASE, worker.life])
        async with asyncio.timeout(30):
            while b"fox dog" not in await ask(http):  # phantom workers are dead after a second
                await worker.beat()
        async with KottosClient(broker.config("client")) as client:
            pieces = [piece async for piece in client.generate(BASE, text="x")]
        assert "".join(piece.text for piece in pieces) == "fox dog"
        assert running.process.returncode is None
    for user in ("client", "steward"):
        await buses[user].close()


async def ask(http: aiohttp.ClientSession) -> bytes:
    async with http.post("/v1/completions", json={"model": BASE, "prompt": "x"}) as response:
        return await response.read()


async def test_a_worker_serves_on(tiny_models: TinyModels, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # what it says of all that would fill the report
    source = tiny_models.source("llama")
    expected = tiny_models.generate(source, [5, 6, 7], 8)
    async with running_worker(tiny_models.config([source])) as harness:

        def inject(subject: str) -> Send:
            async def send(payload: bytes) -> None:
                harness.broker.inject(subject, payload)

            return send

        own = subjects.worker(REAL_WORKER)
        ways = {
            "own": (inject(own), (Assign, Cancel, EndAck, Resend)),
            "owners": (inject(subjects.BEAT_OWNER), (OwnerBeat,)),
            "catalogue": (inject(subjects.CATALOGUE), NONE),
        }
        await make_noise(ways, [source.name, REAL_WORKER])  # not our owner: it would hear of requests that are not its
        stream = await harness.finish(await harness.submit(source.name, [5, 6, 7], 8))
        assert stream.tokens == expected
