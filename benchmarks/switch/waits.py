"""From the decision to the first operation that may run, by each way of bringing weights in."""

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from benchmarks.models import LoadedModel
from benchmarks.switch.stage import Stage, room_for_all, room_for_one
from benchmarks.switch.timings import Timings
from gpu_worker.host_cache.mapping import map_blob


async def copied(models: Sequence[LoadedModel], repeats: int, timings: Timings) -> None:
    """In turns: the loader's copy of each model, and a bare copy of the same bytes to the same place."""
    stage = Stage(models, room_for_one(models), None)
    for repeat in range(repeats + 1):
        for model in models:
            waited_ms, _ = await stage.bring(model.name)
            place = stage.weights.resident(model.name)
            assert place is not None
            started_at_s = time.perf_counter()
            await asyncio.get_running_loop().run_in_executor(None, _copy, place, stage.blobs[model.name])
            floor_ms = (time.perf_counter() - started_at_s) * 1e3
            if repeat:  # the first warms up
                timings.add(model.name, "plain", waited_ms)
                timings.add(model.name, "floor", floor_ms)


def _copy(destination: Tensor, source: Tensor) -> None:
    destination.copy_(source)


async def resident(models: Sequence[LoadedModel], repeats: int, timings: Timings) -> None:
    stage = Stage(models, room_for_all(models), None)
    for repeat in range(repeats + 1):
        for model in models:
            waited_ms, _ = await stage.bring(model.name)
            if repeat:
                timings.add(model.name, "resident", waited_ms)


async def prefetched(models: Sequence[LoadedModel], repeats: int, link: float, timings: Timings) -> None:
    """Brought in during the other model's turn, which is long enough."""
    stage = Stage(models, room_for_all(models), link)
    for _ in range(repeats):
        for model, other in (models, models[::-1]):
            stage.drop(model.name)
            await stage.bring(other.name)
            await stage.weights.until_resident(other.name)
            stage.loader.prefetch()
            await stage.weights.until_resident(model.name)
            waited_ms, _ = await stage.bring(model.name)
            timings.add(model.name, "prefetched", waited_ms)


def unified(models: Sequence[LoadedModel], repeats: int, timings: Timings) -> None:
    """Parameters point at another blob; nothing is copied."""
    blobs = {model.name: [map_blob(model.weights_file, model.blob_bytes) for _ in range(2)] for model in models}
    for repeat in range(repeats + 2):
        for model in models:
            started_at_s = time.perf_counter()
            model.executor.bind(blobs[model.name][repeat % 2])
            if repeat > 1:
                timings.add(model.name, "unified", (time.perf_counter() - started_at_s) * 1e3)


async def from_disk(models: Sequence[LoadedModel], repeats: int, timings: Timings) -> None:
    """The pages of the file are dropped first; then read, and copied to the device."""
    stage = Stage(models, room_for_one(models), None)
    for _ in range(repeats):
        for model in models:
            del stage.blobs[model.name]
            model.executor.release()
            drop_pages(model.weights_file)
            started_at_s = time.perf_counter()
            stage.blobs[model.name] = await asyncio.to_thread(map_blob, model.weights_file, model.blob_bytes)
            await stage.bring(model.name)
            timings.add(model.name, "from disk", (time.perf_counter() - started_at_s) * 1e3)


def drop_pages(file: Path) -> None:
    """It has to be read from the disk next. Raises RuntimeError where the kernel keeps pages: somebody maps it."""
    gc.collect()  # earlier stages, whose mappings hold the pages
    descriptor = os.open(file, os.O_RDONLY)
    try:
        num_bytes = os.fstat(descriptor).st_size
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        for offset in range(0, num_bytes, num_bytes // 8):
            with contextlib.suppress(BlockingIOError):
                os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)  # only what is in memory
                raise RuntimeError(f"pages of {file} stay in memory")
    finally:
        os.close(descriptor)
