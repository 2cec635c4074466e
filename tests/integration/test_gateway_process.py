"""`python -m gateway` on a real NATS server, with the bus users' permissions."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import pytest

from cli.broker import EmbeddedBroker
from shared.bus import NatsBus
from shared.client import KottosClient
from shared.config import BusConfig, Config, GatewayConfig, to_environ
from shared.ids import ModelName
from shared.messages import Cancel, Ended, Submit
from tests.integration.gateway_harness import BASE, encode, make_config
from tests.integration.scripted_worker import ScriptedWorker
from tests.processes import descendants, watch

ASKED = msgspec.json.encode({"model": BASE, "prompt": "x", "stream": True})


@dataclass(frozen=True)
class Running:
    process: asyncio.subprocess.Process
    url: str


@asynccontextmanager
async def gateway_process(config: Config) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", env=os.environ | to_environ(config), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            while not (found := re.search(rb"serving on (http://\S+)", line := await process.stderr.readline())):
                assert line, "it ended"
        yield Running(process, found[1].decode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def is_ready(http: aiohttp.ClientSession) -> bool:
    async with http.get("/ready") as response:
        return response.status == 200


@pytest.fixture
def config(tmp_path: Path, broker: EmbeddedBroker) -> Config:
    return msgspec.structs.replace(make_config(tmp_path, GatewayConfig(port=0)), bus=broker.config("gateway"))


@pytest.fixture
async def worker(broker: EmbeddedBroker) -> AsyncIterator[ScriptedWorker]:
    router_bus, worker_bus = (NatsBus(broker.config(user), user) for user in ("router", "worker"))
    async with ScriptedWorker(bus=router_bus, worker_bus=worker_bus, models=(ModelName(BASE),)).running() as scripted:
        yield scripted


async def test_both_fronts_serve_and_sigterm_ends_it_cleanly(
    config: Config, worker: ScriptedWorker, broker: EmbeddedBroker
) -> None:
    worker.answer = lambda submit: [*encode("fox dog"), 1]
    async with gateway_process(config) as running, aiohttp.ClientSession(running.url) as http:
        async with http.post("/v1/completions", data=ASKED) as response:
            body = await response.read()
        assert response.status == 200
        assert body.endswith(b"data: [DONE]\n\n")
        async with KottosClient(broker.config("client")) as client:
            pieces = [piece async for piece in client.generate(BASE, text="x")]
        assert "".join(piece.text for piece in pieces) == "fox dog"
        async with asyncio.timeout(10):
            while not await is_ready(http):
                await worker.beat()
        with watch(*descendants(running.process.pid)) as children:
            running.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                assert await running.process.wait() == 0
            assert children
            for child in children:
                await child.wait_end()


async def test_sigterm_ends_what_outlasts_its_grace_with_an_error(
    config: Config, worker: ScriptedWorker, broker: EmbeddedBroker
) -> None:
    async with (
        gateway_process(config) as running,
        aiohttp.ClientSession(running.url) as http,
        KottosClient(broker.config("client")) as client,
    ):
        asking = asyncio.create_task(http.post("/v1/completions", data=ASKED))
        calling = asyncio.ensure_future(anext(client.generate(BASE, text="x")))
        submits = await worker.wait_for(Submit, 2)
        for submit in submits:
            await worker.say(submit.request_id, *encode("fox"))
        async with await asking as response:
            running.process.terminate()
            body = await response.read()
        assert b"fox" in body
        assert b"The gateway is stopping" in body
        assert body.endswith(b"data: [DONE]\n\n")
        assert (await calling).text == "fox"
        cancels = await worker.wait_for(Cancel, 2)
        assert {cancel.request_id for cancel in cancels} == {submit.request_id for submit in submits}
        async with asyncio.timeout(10):
            assert await running.process.wait() == 0


async def test_log_levels_are_told_over_the_bus(config: Config) -> None:
    body = {"logger": "gateway.http", "level": "debug", "service": "gateway"}
    async with gateway_process(config) as running, aiohttp.ClientSession(running.url) as http:
        async with http.put("/admin/log-level", json=body) as response:
            assert response.status == 200
        assert running.process.stderr is not None
        async with asyncio.timeout(10):
            while b"the level of 'gateway.http' is now debug" not in (line := await running.process.stderr.readline()):
                assert line, "it ended"


async def test_sigterm_lets_a_short_request_end(config: Config, worker: ScriptedWorker) -> None:
    async with gateway_process(config) as running, aiohttp.ClientSession(running.url) as http:
        asking = asyncio.create_task(http.post("/v1/completions", data=ASKED))
        [submit] = await worker.wait_for(Submit)
        running.process.terminate()
        await worker.say(submit.request_id, *encode("fox"), ended=Ended("stop"))
        async with await asking as response:
            assert b'"finish_reason":"stop"' in await response.read()


async def test_a_stream_survives_a_restart_of_the_broker(
    config: Config, worker: ScriptedWorker, broker: EmbeddedBroker
) -> None:
    async with gateway_process(config) as running, aiohttp.ClientSession(running.url) as http:
        asking = asyncio.create_task(http.post("/v1/completions", data=ASKED))
        [submit] = await worker.wait_for(Submit)
        await worker.say(submit.request_id, *encode("fox"))
        async with await asking as response:
            await broker.kill()
            await broker.start()
            await worker.say(submit.request_id, *encode(" dog"), ended=Ended("stop"))
            async with asyncio.timeout(20):
                body = await response.read()
        assert body.endswith(b"data: [DONE]\n\n")
        texts = re.findall(rb'"text":"([^"]*)"', body)
        assert b"".join(texts) == b"fox dog"


async def test_its_text_processes_end_when_it_is_killed(config: Config, worker: ScriptedWorker) -> None:
    async with gateway_process(config) as running:
        with watch(*descendants(running.process.pid)) as children:
            assert children
            running.process.kill()
            for child in children:
                await child.wait_end()


@pytest.mark.parametrize("password", ["", "wrong"])
async def test_it_refuses_to_start_without_its_bus(config: Config, password: str) -> None:
    bus = BusConfig(config.bus.url, config.bus.user, password)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway",
        env=os.environ | to_environ(msgspec.structs.replace(config, bus=bus)),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith(b"gateway: ")
    assert b"Traceback" not in said


async def test_it_never_imports_torch() -> None:
    program = "import sys, gateway.__main__, gateway.text.child; sys.exit('torch' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == 0
