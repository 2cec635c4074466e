"""The client process, started and told what to do; and the gateway's own time and memory meanwhile."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from benchmarks.cpu_time import process_cpu_s
from benchmarks.streams.client import Job, Report

_LOOK_S: Final = 0.1


class Client:
    """A running client process."""

    def __init__(self, process: asyncio.subprocess.Process, path: Path) -> None:
        self._process = process
        self._path = path

    async def is_open(self) -> None:
        """Idle connections are there. Raises RuntimeError."""
        assert self._process.stdout is not None
        said = (await self._process.stdout.readline()).decode().strip()
        if said != "open":
            raise RuntimeError(f"the connections did not open: {said}")

    async def ask_again(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()

    async def report(self) -> Report:
        """Once it has ended. Raises RuntimeError when it failed."""
        if await self._process.wait():
            raise RuntimeError("the client process failed")
        return msgspec.msgpack.decode(self._path.read_bytes(), type=Report)


@asynccontextmanager
async def client(url: str, request: bytes, num_connections: int, token: bytes = b"") -> AsyncIterator[Client]:
    """With a token the answers are streams of it."""
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report"
        job = Job(parts.hostname, parts.port, num_connections, request, token, bool(token), str(path))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.streams.client", msgspec.json.encode(job).decode(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield Client(process, path)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def pin(pid: int, cores: Sequence[int]) -> None:
    """All threads that the process has; those to come inherit it from whoever starts them."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cores)


class CpuMeter:
    """A process's CPU time, at any instant of the past."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._samples: list[tuple[float, float]] = []  # instants, seconds used until then

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    async def _look(self) -> None:
        while True:
            self._samples.append((time.monotonic(), process_cpu_s(self._pid)))
            await asyncio.sleep(_LOOK_S)

    def share(self, from_s: float, to_s: float) -> float:
        """Of a core, over the samples in this time."""
        first, *_, last = [sample for sample in self._samples if from_s <= sample[0] <= to_s]
        return (last[1] - first[1]) / (last[0] - first[0])


async def until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # other loops change it
            await asyncio.sleep(_LOOK_S)
