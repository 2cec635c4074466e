"""What the gateway says of itself, against what it does: schemathesis, and the router of URLs."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from gateway.http.operations import ADMIN
from tests.integration.gateway_harness import BASE, CHAT, Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
NUM_EXAMPLES = 25  # of each operation
# What a schema can't say (prompt and max_tokens fit the context together, a tool is named twice) is a 400.
CONFIG = """
[generation]
deterministic = true
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404"]
"""


async def test_schemathesis_finds_nothing(stack: Stack, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    stack.says("ok")
    async with http.get("/openapi.json") as response:
        described = await response.json()
    name_models(described)
    (tmp_path / "openapi.json").write_bytes(msgspec.json.encode(described))
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    process = await asyncio.create_subprocess_exec(
        str(SCHEMATHESIS), "--no-color", "--config-file", "schemathesis.toml",
        "run", "openapi.json", "--url", stack.url, "--exclude-tag", ADMIN,
        "--checks", "all", "--max-examples", str(NUM_EXAMPLES),
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with beating(stack):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert stack.gateway.admission.num_open == 0


@asynccontextmanager
async def beating(stack: Stack) -> AsyncIterator[None]:
    """Its router and worker live all the while, or /ready would say that they don't."""

    async def beat() -> None:
        while True:
            await stack.worker.beat()
            await asyncio.sleep(0.5)

    task = asyncio.create_task(beat())
    yield
    task.cancel()


def name_models(described: Any) -> None:
    """As a client does who has read GET /v1/models: unknown names would be all that is tried."""
    for schema in described["components"]["schemas"].values():
        if "model" in schema.get("properties", {}) and "Request" in schema["title"]:
            schema["properties"]["model"] = {"enum": [CHAT, BASE]}


async def test_every_route_is_described(stack: Stack, http: aiohttp.ClientSession) -> None:
    async with http.get("/openapi.json") as response:
        paths = (await response.json())["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == {
        (route.method, route.resource.canonical)
        for route in stack.gateway.http.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }


async def test_the_page_needs_nothing_else(http: aiohttp.ClientSession) -> None:
    async with http.get("/docs") as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "/v1/chat/completions" in await response.text()
