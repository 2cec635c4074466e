"""A worker alone, in this process, its owner with it: objects and tables can be counted."""

import asyncio
import gc
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bare_worker import BareWorker, running
from benchmarks.flatness.containers import TABLE_PREFIX, held, num_blocks, num_objects
from benchmarks.flatness.samples import Samples
from benchmarks.flatness.work import MEMORY, NUM_STREAMS, Task, Tasks
from benchmarks.processes import descendants, size_of
from shared.config import Config, ModelSource
from shared.messages import Ended


class Run:
    """Clients ask one after the other, several at once, until there were enough requests and switches."""

    def __init__(self, worker: BareWorker, tasks: Tasks, num_requests: int, num_switches: int, every: int) -> None:
        self.samples = Samples()
        self.num_ended = 0
        self.totals: Counter[str] = Counter()
        self._worker = worker
        self._tasks = tasks
        self._num_requests = num_requests
        self._num_switches = num_switches
        self._every = every

    async def client(self) -> None:
        while self.num_ended < self._num_requests or self._worker.num_switches.total() < self._num_switches:
            task = self._tasks.take()
            assert task is not None
            self._count(await self._ask(task))

    async def _ask(self, task: Task) -> Ended:
        request = await self._worker.submit(task.model, task.prompt, task.num_tokens)
        if task.leaves:
            await request.has_tokens.wait()
            await self._worker.cancel(request)
        return await self._worker.finish(request)

    def _count(self, ended: Ended) -> None:
        self.num_ended += 1
        self.totals["preemptions"] += ended.num_preemptions
        self.totals["swaps"] += ended.num_swaps
        self.totals["cached"] += ended.num_cached_tokens
        self.totals[ended.reason] += 1
        if self.num_ended % self._every == 0:
            self.samples.add(self.num_ended, sizes())


def sizes() -> dict[str, float]:
    """Of this process and the host model cache, its child."""
    found: dict[str, float] = {"objects": num_objects(), "blocks of Python": num_blocks()}
    found |= {f"{TABLE_PREFIX}{name}": num for name, num in held(gc.get_objects()).items()}
    own, *children = descendants(os.getpid())
    for name, pid in (("worker", own), *(("host cache", child) for child in children)):
        size = size_of(pid)
        found[f"{name} RSS"], found[f"{name} PSS"] = size.rss_bytes, size.pss_bytes
        found[f"{name} threads"], found[f"{name} descriptors"] = size.num_threads, size.num_descriptors
    return found


async def run(
    sources: Sequence[ModelSource], cache_dir: Path, num_requests: int, num_switches: int, every: int
) -> tuple[Samples, str]:
    """-> samples, and what went on meanwhile."""
    config = Config(models=tuple(sources), cache_dir=cache_dir, worker=MEMORY, log_level="warning")
    async with running(config) as worker:
        run = Run(worker, Tasks(sources), num_requests, num_switches, every)
        async with asyncio.TaskGroup() as clients:
            for _ in range(NUM_STREAMS):
                clients.create_task(run.client())
        kinds = ", ".join(f"{num:,} {kind}" for kind, num in worker.num_switches.most_common())
        summary = (
            f"One worker on an in-memory bus, {len(sources)} models, memory for two, {NUM_STREAMS} streams: "
            f"{run.num_ended:,} requests, of which {run.totals['cancelled']:,} left early; "
            f"{worker.num_switches.total():,} switches ({kinds}); {run.totals['preemptions']:,} preemptions, "
            f"of which {run.totals['swaps']:,} moved their KV to host memory; "
            f"{run.totals['cached']:,} prompt tokens were found in the prefix cache."
        )
        return run.samples, summary
