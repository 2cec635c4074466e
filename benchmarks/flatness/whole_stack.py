"""`kottos serve` as processes, asked over HTTP."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from benchmarks.flatness.samples import Samples
from benchmarks.flatness.work import MEMORY, NUM_STREAMS, Task, Tasks
from benchmarks.load import open_session, stream_completion
from benchmarks.processes import command_line, descendants, size_of
from benchmarks.served import Served, serve
from shared.config import ModelSource, WorkerConfig, variable

# The first that a command line has; the gateway's children begin as it does and are told by their order.
_NAMES: Final = {
    "gpu_worker.host_cache": "host cache",
    "gpu_worker": "worker",
    "gateway": "gateway",
    "router": "router",
    "nats-server": "nats-server",
    "serve": "supervisor",
}
_MAX_REQUESTS: Final = 64  # in flight; so the table of attempts that are over is full before the first sample


class Run:
    def __init__(self, served: Served, tasks: Tasks, every: int) -> None:
        self.samples = Samples()
        self.num_ended = 0
        self.num_left = 0
        self._served = served
        self._tasks = tasks
        self._every = every

    async def client(self, session: aiohttp.ClientSession) -> None:
        while (task := self._tasks.take()) is not None:
            if task.leaves:
                await self._leave_early(session, task)
            else:
                await stream_completion(session, self._served.url, task.model, task.prompt, task.num_tokens)
            self.num_ended += 1
            if self.num_ended % self._every == 0:
                self.samples.add(self.num_ended, sizes(self._served.pid))

    async def _leave_early(self, session: aiohttp.ClientSession, task: Task) -> None:
        body = {"model": task.model, "prompt": task.prompt, "max_tokens": task.num_tokens, "stream": True}
        async with session.post(
            f"{self._served.url}/v1/completions",
            data=msgspec.json.encode({**body, "ignore_eos": True}),
            headers={"Content-Type": "application/json"},
        ) as response:
            response.raise_for_status()
            await response.content.readline()
            response.close()
        self.num_left += 1


def sizes(supervisor: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, pid in _named(supervisor).items():
        size = size_of(pid)
        found[f"{name} RSS"], found[f"{name} PSS"] = size.rss_bytes, size.pss_bytes
        found[f"{name} threads"], found[f"{name} descriptors"] = size.num_threads, size.num_descriptors
    return found


def _named(supervisor: int) -> Mapping[str, int]:
    """Process ids by what the process is."""
    found: dict[str, int] = {}
    for pid in descendants(supervisor):
        words = {Path(word).name for word in command_line(pid)}
        name = next((name for word, name in _NAMES.items() if word in words), "text process")
        number = 1 + sum(each.startswith(name) for each in found)
        found[name if number == 1 else f"{name} {number}"] = pid
    return found


async def run(sources: Sequence[ModelSource], folder: Path, num_requests: int, every: int) -> tuple[Samples, str]:
    """-> samples, and what went on meanwhile. `folder` takes log and cache."""
    flags = [flag for source in sources for flag in ("--model", f"{source.name}={source.path}")]
    with serve(
        *flags, log_path=folder / "log", settings={"KOTTOS_CACHE": str(folder / "cache"), **_settings()}
    ) as served:
        run = Run(served, Tasks(sources, num_requests), every)
        async with open_session() as session, asyncio.TaskGroup() as clients:
            for _ in range(NUM_STREAMS):
                clients.create_task(run.client(session))
    summary = (
        f"`kottos serve` with one worker, {len(sources)} models, memory for two, {NUM_STREAMS} streams: "
        f"{run.num_ended:,} requests over HTTP, of which {run.num_left:,} left early."
    )
    return run.samples, summary


def _settings() -> dict[str, str]:
    """The variables that give the worker its memory and the gateway its bounds."""
    defaults = WorkerConfig()
    fields = {name: getattr(MEMORY, name) for name in WorkerConfig.__struct_fields__}
    changed = {name: value for name, value in fields.items() if value != getattr(defaults, name)}
    of_worker = {variable(f"worker.{name}"): str(value) for name, value in changed.items()}
    return {**of_worker, variable("gateway.max_requests"): str(_MAX_REQUESTS)}
