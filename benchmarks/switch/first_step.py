"""A first step over an emulated link: streamed it begins at once, plain it waits for the copy."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.models import LoadedModel
from benchmarks.switch.stage import Stage, prompt, room_for_one
from benchmarks.switch.timings import Timings

_run: Callable[..., Awaitable[Any]] = asyncio.to_thread


async def first_step(models: Sequence[LoadedModel], repeats: int, link: float, timings: Timings) -> None:
    """From the decision to the end of a step of a prompt, and its parts; both ways in turns."""
    stage = Stage(models, room_for_one(models), link)
    for repeat in range(repeats + 1):
        ignored = Timings()
        for model in models:
            await _plain(stage, model, timings if repeat else ignored)  # the first warms up
        for model in models:
            await _streamed(stage, model, timings if repeat else ignored)


async def _plain(stage: Stage, model: LoadedModel, timings: Timings) -> None:
    started_at_s = time.perf_counter()
    _, stream = await stage.bring(model.name)
    assert stream is not None
    await _run(stream.transfer.wait)
    copied_at_s = time.perf_counter()
    await _run(model.executor.step, prompt(model))
    ended_at_s = time.perf_counter()
    timings.add(model.name, "copy, then step", (ended_at_s - started_at_s) * 1e3)
    timings.add(model.name, "copy", (copied_at_s - started_at_s) * 1e3)
    timings.add(model.name, "step", (ended_at_s - copied_at_s) * 1e3)
    await stage.weights.until_resident(model.name)


async def _streamed(stage: Stage, model: LoadedModel, timings: Timings) -> None:
    started_at_s = time.perf_counter()
    _, stream = await stage.bring(model.name)
    assert stream is not None
    await _run(model.executor.step, prompt(model), stream)
    timings.add(model.name, "streamed", (time.perf_counter() - started_at_s) * 1e3)
    await stage.weights.until_resident(model.name)
