"""`kottos serve` as its user meets it: start, request, crashes of its parts, and an end that leaves nothing."""

import asyncio
import os
import re
import signal
import sysconfig
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import msgspec
import pytest

from benchmarks.tiny_models import make_tiny_model
from cli.run_dir import run_dir
from tests.processes import descendants, watch

KOTTOS = Path(sysconfig.get_path("scripts")) / "kottos"
START_TIMEOUT_S = 120.0  # with the import of the model
AGAIN_TIMEOUT_S = 30.0  # a worker imports torch again; the router needs a fraction
STOP_TIMEOUT_S = 30.0
SERVICES = {"broker", "router", "host-cache", "worker-0", "gateway"}


class Choice(msgspec.Struct):
    text: str


class Completion(msgspec.Struct):
    choices: list[Choice]


class Stack:
    """A running `kottos serve` on a tiny model."""

    def __init__(self, process: Process, temp: Path) -> None:
        self.process = process
        self.temp = temp  # its folder for temporary files
        self.banner: list[str] = []
        self._pids: dict[str, int] = {}  # by service, from the log
        self._started = asyncio.Condition()
        self._log: list[str] = []
        self._reading = asyncio.create_task(self._read_log())

    async def _read_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self._log.append(line.decode(errors="replace").rstrip())
            if match := re.search(r"(\S+) started as process (\d+)$", self._log[-1]):
                async with self._started:
                    self._pids[match[1]] = int(match[2])
                    self._started.notify_all()

    async def wait_banner(self) -> None:
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not self.banner or not self.banner[-1].startswith("Ctrl-C"):
                    line = await self.process.stdout.readline()
                    assert line, self.log()
                    self.banner.append(line.decode().rstrip())
        except TimeoutError:
            pytest.fail(f"not ready:\n{self.log()}")
        assert set(self._pids) == SERVICES

    def log(self) -> str:
        return "\n".join(self._log[-40:])

    @property
    def url(self) -> str:
        return self.banner[0].split()[-1]

    async def kill(self, service: str) -> None:
        """Returns when a successor has been started."""
        killed = self._pids[service]
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(AGAIN_TIMEOUT_S), self._started:
            await self._started.wait_for(lambda: self._pids[service] != killed)

    async def complete(self) -> str:
        """A greedy completion, tried again until the stack serves."""
        body = {"model": "tiny", "prompt": "The quick brown fox", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
        async with aiohttp.ClientSession() as session:
            try:
                async with asyncio.timeout(AGAIN_TIMEOUT_S):
                    while True:
                        with suppress(aiohttp.ClientError):
                            async with session.post(f"{self.url}/v1/completions", json=body) as response:
                                if response.status == 200:
                                    return msgspec.json.decode(await response.read(), type=Completion).choices[0].text
                        await asyncio.sleep(0.05)
            except TimeoutError:
                pytest.fail(f"does not serve:\n{self.log()}")

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading


@pytest.fixture(scope="module")
def model_and_cache(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("lifecycle")
    return make_tiny_model("llama", folder / "tiny"), folder / "cache"


@pytest.fixture
async def stack(model_and_cache: tuple[Path, Path], tmp_path: Path) -> AsyncIterator[Stack]:
    model, cache = model_and_cache
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KOTTOS_")}
    environ |= {"KOTTOS_CACHE": str(cache), "KOTTOS_STATE_DIR": str(cache.with_name("state"))}
    environ |= {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    flags = ["--model", f"tiny={model}", "--port", "0", "--kv-memory", "64MiB", "--dtype", "float32"]
    process = await asyncio.create_subprocess_exec(KOTTOS, "serve", *flags, env=environ, stdout=PIPE, stderr=PIPE)
    stack = Stack(process, tmp_path)
    try:
        await stack.wait_banner()
        yield stack
    finally:
        await stack.end()


async def test_it_answers_and_ctrl_c_leaves_nothing(stack: Stack) -> None:
    [curl] = [line for line in stack.banner if line.startswith("curl ")]
    pasted = await asyncio.create_subprocess_shell(f"{curl} --silent --fail", stdout=PIPE)
    answer, _ = await pasted.communicate()
    assert pasted.returncode == 0 and b'"choices"' in answer

    with watch(*descendants(stack.process.pid)) as processes:
        assert len(processes) >= len(SERVICES)
        stack.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(STOP_TIMEOUT_S):
            assert await stack.process.wait() == 0
        assert [process.pid for process in processes if process.is_alive()] == []
    assert list(stack.temp.iterdir()) == []


async def test_it_serves_again_after_each_of_its_parts_was_killed(stack: Stack) -> None:
    before = await stack.complete()
    for service in sorted(SERVICES):
        await stack.kill(service)
        assert await stack.complete() == before, service


async def test_a_killed_supervisor_takes_everything_with_it(stack: Stack) -> None:
    with watch(*descendants(stack.process.pid)) as processes:
        stack.process.kill()
        for process in processes:
            await process.wait_end()
    assert len(list(stack.temp.glob("kottos-run-*"))) == 1
    with run_dir(stack.temp) as folder:  # the next start cleans up
        assert list(stack.temp.glob("kottos-run-*")) == [folder]
