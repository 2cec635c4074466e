"""`kottos models` on a running stack, and requests for what it added."""

import json
import os
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from benchmarks.served import Served, serve
from benchmarks.tiny_models import make_tiny_model
from cli.client_env import OPERATOR_ENV
from tests.e2e.driving import complete, open_client
from tests.integration.tiny_models import TinyModels

KOTTOS = Path(sysconfig.get_path("scripts")) / "kottos"
SMALL = ("--device-memory", "40MiB", "--kv-memory", "16MiB")


@pytest.fixture
def tiny_stack(tmp_path: Path, tiny_models: TinyModels) -> Iterator[Served]:
    settings = {"KOTTOS_CACHE": str(tiny_models.cache_dir), "KOTTOS_WORKER_NUM_THREADS": "1"}
    with serve(
        "--model", f"first={tiny_models.source('llama').path}", *SMALL, log_path=tmp_path / "log", settings=settings
    ) as served:
        yield served


def models(served: Served, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(KOTTOS), "models", *words, "--env", str(served.client_env.parent / OPERATOR_ENV)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90)


def states(served: Served) -> dict[str, str]:
    listed = models(served, "list", "--json")
    assert listed.returncode == 0, listed.stderr
    return {model["name"]: model["state"] for model in json.loads(listed.stdout)}


def worker_of(served: Served) -> int:
    """The process id of the stack's only worker."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (folder / "task").exists():
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == served.pid and b"gpu_worker" in words:
                return int(folder.name)
    raise AssertionError("no worker runs")


async def test_models_are_listed_added_and_removed(tiny_stack: Served, tmp_path: Path, tiny_models: TinyModels) -> None:
    make_tiny_model("qwen2", tmp_path / "qwen2")  # not imported yet
    async with open_client(tiny_stack) as client:
        with pytest.raises(openai.NotFoundError):
            await complete(client, "second", [5, 6, 7], max_tokens=4)
        added = models(tiny_stack, "add", "second", str(tmp_path / "qwen2"))
        assert (added.returncode, added.stdout) == (0, "second is served\n"), added.stderr
        first = await complete(client, "second", [5, 6, 7], max_tokens=4)
        assert set(states(tiny_stack)) == {"first", "second"}

        os.kill(worker_of(tiny_stack), signal.SIGKILL)
        again = models(tiny_stack, "add", "second", str(tmp_path / "qwen2"), "--json")  # waits until it is served
        assert json.loads(again.stdout)["state"] in ("cached", "resident"), again.stderr
        assert (await complete(client, "second", [5, 6, 7], max_tokens=4)).token_ids == first.token_ids

        other = models(tiny_stack, "add", "second", tiny_models.source("llama").path)
        assert other.returncode == 1 and "remove it first" in other.stderr
        nowhere = models(tiny_stack, "add", "third", str(tmp_path / "nowhere"))
        assert nowhere.returncode == 1 and "no such file or folder" in nowhere.stderr

        removed = models(tiny_stack, "remove", "second")
        assert (removed.returncode, removed.stdout) == (0, "second is gone\n"), removed.stderr
        assert set(states(tiny_stack)) == {"first"}
        with pytest.raises(openai.NotFoundError):
            await complete(client, "second", [5, 6, 7], max_tokens=4)
        assert await complete(client, "first", [5, 6, 7], max_tokens=4)
