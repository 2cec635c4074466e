"""`kottos keys` beside a running stack: keys that come and go, and a stack that starts with them again."""

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from benchmarks.served import Served, serve
from tests.integration.tiny_models import TinyModels

KOTTOS = Path(sysconfig.get_path("scripts")) / "kottos"
CHANGE_TRIES = 1000


class Stack:
    """One state folder, and the stacks that are started on it."""

    def __init__(self, folder: Path, models: TinyModels) -> None:
        self.log = folder / "log"
        self._model = models.source("llama").path
        self._settings = {"KOTTOS_CACHE": str(models.cache_dir), "KOTTOS_STATE_DIR": str(folder / "state")}
        self._settings["KOTTOS_WORKER_KV_MEMORY"] = "64MiB"

    def keys(self, *words: str) -> Any:
        """What `kottos keys` says."""
        command = [str(KOTTOS), "keys", *words, "--json"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | self._settings)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def serving(self, *flags: str) -> Any:
        settings = self._settings | {"KOTTOS_LOG_LEVEL": "debug"}
        return serve("--model", f"tiny={self._model}", *flags, log_path=self.log, settings=settings)


@pytest.fixture
def stack(tmp_path: Path, tiny_models: TinyModels) -> Stack:
    return Stack(tmp_path, tiny_models)


async def ask(served: Served, key: str) -> Any:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0, timeout=60) as client:
        return await client.completions.create(model="tiny", prompt=[5, 6, 7], max_tokens=2)


async def refuses(served: Served, key: str) -> bool:
    """Within a second, of which requests take their part."""
    for _ in range(CHANGE_TRIES):
        try:
            await ask(served, key)
        except openai.AuthenticationError:
            return True
    return False


async def test_keys_come_and_go_while_it_serves(stack: Stack) -> None:
    with stack.serving() as served:
        assert await ask(served, "none")
        first, second = (stack.keys("create", "--name", name)["key"] for name in ("first", "second"))
        assert await refuses(served, "none")
        assert await ask(served, first)
        stack.keys("revoke", "first")
        assert await refuses(served, first)
        assert await ask(served, second)
    said = stack.log.read_text()
    with stack.serving() as served:  # which waits for an answer by a key of its own
        with pytest.raises(openai.AuthenticationError):
            await ask(served, "none")
        assert await ask(served, second)
        assert [key["name"] for key in stack.keys("list")] == ["second"]
    said += stack.log.read_text()
    assert first not in said and second not in said and "sk-kottos" not in said


def test_other_machines_are_not_served_without_keys(stack: Stack) -> None:
    refusal = pytest.raises(RuntimeError, match=r"gateway\.host 0\.0\.0\.0 lets other machines in")
    with refusal, stack.serving("--host", "0.0.0.0"):
        pass
