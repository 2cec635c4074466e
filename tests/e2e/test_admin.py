"""What an administrator changes over HTTP on a running stack, and finds again on the next one."""

import asyncio
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from benchmarks.served import Served, serve
from cli.client_env import OPERATOR_ENV
from tests.e2e.driving import complete, open_client
from tests.integration.tiny_models import TinyModels

KOTTOS = Path(sysconfig.get_path("scripts")) / "kottos"
SMALL = ("--device-memory", "40MiB", "--kv-memory", "16MiB")


class Stacks:
    """One state folder, and the stacks that are started on it, with one configured model."""

    def __init__(self, folder: Path, models: TinyModels) -> None:
        self.first, self.second = (models.source(family).path for family in ("llama", "gemma3"))
        self._folder = folder
        self._cache_dir = models.cache_dir

    @contextmanager
    def serving(self) -> Iterator[Served]:
        state = {"KOTTOS_STATE_DIR": str(self._folder / "state"), "KOTTOS_CACHE": str(self._cache_dir)}
        settings = state | {"KOTTOS_WORKER_NUM_THREADS": "1"}
        flags = ("--model", f"first={self.first}", *SMALL)
        with serve(*flags, log_path=self._folder / "log", settings=settings) as served:
            yield served


@pytest.fixture
def stacks(tmp_path: Path, tiny_models: TinyModels) -> Stacks:
    return Stacks(tmp_path, tiny_models)


async def admin(served: Served, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    async with aiohttp.ClientSession(served.url) as http, http.request(method, f"/admin/{path}", json=body) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def until_served(served: Served, model: str) -> None:
    """By events, which begin with how all is."""
    async with aiohttp.ClientSession(served.url) as http, http.get("/admin/events") as response:
        async for line in response.content:
            if b'"state":"failed"' in line:
                raise AssertionError(line)
            if model.encode() in line and (b'"state":"resident"' in line or b'"state":"cached"' in line):
                return


def remove(served: Served, model: str) -> None:
    command = [str(KOTTOS), "models", "remove", model, "--env", str(served.client_env.parent / OPERATOR_ENV)]
    removed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert removed.returncode == 0, removed.stderr


async def is_drained(served: Served) -> bool:
    [worker] = (await admin(served, "GET", "workers"))["data"]
    return bool(worker["draining"])


async def test_changes_outlive_the_stack(stacks: Stacks) -> None:
    with stacks.serving() as served:
        await admin(served, "POST", "models", {"id": "second", "path": stacks.second}, status=202)
        await until_served(served, "second")
        async with open_client(served) as client:
            first = await complete(client, "second", [5, 6, 7], max_tokens=4)
        await admin(served, "PATCH", "models/second", {"ttft_s": 2.5, "priority": -1})
        await admin(served, "POST", "models/second/unload", status=202)
        await admin(served, "POST", "models/second/load", status=202)
        await admin(served, "POST", "models/second/pin")
        await admin(served, "POST", "models/second/unload", status=409)
        remove(served, "first")
    with stacks.serving() as served:
        [model] = (await admin(served, "GET", "models"))["data"]
        assert (model["id"], model["slo"]["ttft_s"], model["priority"], model["pinned"]) == ("second", 2.5, -1, True)
        async with open_client(served) as client:
            assert (await complete(client, "second", [5, 6, 7], max_tokens=4)).token_ids == first.token_ids
        await admin(served, "DELETE", "models/second")
        await admin(served, "POST", "models", {"id": "first", "path": stacks.first}, status=202)
    with stacks.serving() as served:
        assert [model["id"] for model in (await admin(served, "GET", "models"))["data"]] == ["first"]


async def test_a_drained_worker_gets_no_work_until_it_is_resumed(stacks: Stacks) -> None:
    with stacks.serving() as served:
        [worker] = (await admin(served, "GET", "workers"))["data"]
        await admin(served, "POST", f"workers/{worker['id']}/drain")
        while not await is_drained(served):
            pass
        async with open_client(served) as client:
            task = asyncio.create_task(complete(client, "first", [5, 6, 7], max_tokens=4))
            while not any(request["phase"] == "held" for request in (await admin(served, "GET", "requests"))["data"]):
                assert not task.done(), task.result()
            await admin(served, "POST", f"workers/{worker['id']}/resume")
            assert (await task).num_output_tokens == 4
