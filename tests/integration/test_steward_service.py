"""`kottos steward` as a process, on a real NATS server with the bus users' permissions."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cli.broker import EmbeddedBroker
from shared import subjects
from shared.bus import NatsBus
from shared.catalogue import described
from shared.config import BusConfig, Config, TelemetryConfig, to_environ
from shared.health import ask
from shared.messages import AddModel, AskCatalogue, Catalogue
from tests.compose_processes import free_port
from tests.unit.gateway.tiny_models import write_source

COMMAND = (sys.executable, "-c", "from cli.main import main; main()", "steward")


@pytest.fixture
def config(broker: EmbeddedBroker, tmp_path: Path) -> Config:
    return Config(
        bus=broker.config("steward"),
        cache_dir=tmp_path / "cache",
        state_dir=tmp_path / "state",
        telemetry=TelemetryConfig("127.0.0.1", free_port()),
    )


@asynccontextmanager
async def steward_process(config: Config) -> AsyncIterator[asyncio.subprocess.Process]:
    """Entered when it is ready; stopped as a container runtime stops it."""
    process = await asyncio.create_subprocess_exec(*COMMAND, env=os.environ | to_environ(config))
    try:
        async with asyncio.timeout(30):
            while await asyncio.to_thread(ask, f"http://127.0.0.1:{config.telemetry.metrics_port}/ready"):
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield process
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def names(operator: NatsBus) -> list[str]:
    catalogue = await operator.request(subjects.CATALOGUE_ASK, AskCatalogue(), 5.0)
    assert isinstance(catalogue, Catalogue)
    return [model.name for model in catalogue.models]


async def test_it_says_what_is_served_and_keeps_what_was_added(
    config: Config, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    [model] = described([write_source(tmp_path / "a", "a")])
    operator = NatsBus(broker.config("operator"), "operator")
    await operator.start()
    try:
        async with steward_process(config):
            assert await names(operator) == []
            await operator.request(subjects.CONTROL_MODEL, AddModel(model), 5.0)
        async with steward_process(config):
            assert await names(operator) == ["a"]
    finally:
        await operator.close()


async def test_without_a_bus_there_is_nobody_to_say_it_to(config: Config) -> None:
    environ = os.environ | to_environ(Config(state_dir=config.state_dir, bus=BusConfig()))
    process = await asyncio.create_subprocess_exec(*COMMAND, env=environ, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        _, stderr = await process.communicate()
    assert process.returncode == 2
    assert b"bus.url" in stderr
