import logging
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from shared.child import dies_with_parent
from tests.integration.gateway_harness import Stack, open_stack
from tests.integration.host_cache_harness import owner_command, owner_environ
from tests.integration.tiny_models import TinyModels

HOST_MEMORY_BYTES = 1 << 30  # all tiny models fit many times over


@pytest.fixture(scope="session")
def host_cache_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a host model cache that serves the workers of all tests, as it does those of a host."""
    folder = tmp_path_factory.mktemp("host-cache")
    socket = folder / "socket"
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            owner_command(),
            env=owner_environ(socket, HOST_MEMORY_BYTES),
            stderr=log,
            preexec_fn=dies_with_parent(),
        ) as owner,
    ):
        yield socket
        owner.terminate()


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory, host_cache_socket: Path) -> TinyModels:
    """Made and imported when first asked for: once, also where several processes share a run (pytest-xdist)."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return TinyModels(folder / "tiny-models", host_cache_socket)


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    """What a test changes of them over the bus, as requests drawn from /openapi.json do, ends with it."""
    root = logging.getLogger()
    loggers = [root, *(each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger))]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A gateway for the tests of one module, which may name its settings as GATEWAY."""
    settings: dict[str, Any] = getattr(request.module, "GATEWAY", {})
    async with open_stack(tmp_path_factory.mktemp("gateway"), **settings) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[AsyncOpenAI]:
    async with stack.client() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def http(stack: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(stack.url) as session:
        yield session
