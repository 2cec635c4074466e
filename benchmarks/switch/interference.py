"""What copies beside steps cost others: a model that came for nothing, and a step that runs meanwhile."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from benchmarks.models import LoadedModel, load_demo
from benchmarks.switch.stage import MAX_TOKENS, Stage, next_token, prompt, room_for_one
from benchmarks.switch.timings import Timings
from gpu_worker.device.base import Piece
from gpu_worker.memory.arena import ALIGN_BYTES
from shared.ids import ModelName

_HEAD_START_S: Final = 0.02  # of the wrong copy


async def wrong_prefetch(models: Sequence[LoadedModel], repeats: int, link: float, timings: Timings) -> None:
    """A model's turn comes while the copy of another one is under way, and when none is.

    The small model's twin runs, the large one's twin comes ahead of a turn that it does not get. Where the model whose
    turn it is does not fit beside that, the copy is cancelled, and its place taken when its current slice has ended;
    where it does (instead of the twin that ran), that copy just has to let others pass.
    """
    small, large = sorted(models, key=lambda model: model.blob_bytes)
    running, wrong = (
        replace(load_demo(model.name, "bfloat16", 1, MAX_TOKENS), name=ModelName(f"{model.name}, twin"))
        for model in (small, large)
    )
    stage = Stage([small, large, running, wrong], small.blob_bytes + large.blob_bytes + 2 * ALIGN_BYTES, link)
    for _ in range(repeats):
        for model in models:
            for what in ("alone", "beside"):
                stage.drop(small.name, large.name, wrong.name)
                await stage.bring(running.name)
                await stage.weights.until_resident(running.name)
                stage.turns = [wrong.name, model.name, running.name]
                if what == "beside":
                    stage.loader.prefetch()
                    await stage.weights.until_placed(wrong.name)
                await asyncio.sleep(_HEAD_START_S)
                assert not stage.weights.is_resident(wrong.name), "it came before the turn"
                started_at_s = time.perf_counter()
                waited_ms, stream = await stage.bring(model.name)
                await asyncio.to_thread(model.executor.step, prompt(model), stream)
                timings.add(model.name, f"wait {what}", waited_ms)
                timings.add(model.name, f"first step {what}", (time.perf_counter() - started_at_s) * 1e3)
                await stage.weights.until_resident(model.name)
                await stage.loader.close()


def steps_beside_a_copy(models: Sequence[LoadedModel], repeats: int, link: float, timings: Timings) -> None:
    """Decode steps of one sequence, alone and while the other model's bytes are copied at the link's pace."""
    stage = Stage(models, room_for_one(models), link)
    assert stage.device.copies is not None
    place = stage.device.allocate(room_for_one(models)).zero_()
    for model, other in (models, models[::-1]):
        model.executor.bind(stage.blobs[model.name])
        model.executor.step(prompt(model))
        num_steps = 0
        while num_steps < repeats:
            piece = Piece(place[: other.blob_bytes], stage.blobs[other.name])
            copy = stage.device.copies.start([piece], urgent=False)
            beside_ms = []
            while copy.arrived_bytes < copy.num_bytes:
                beside_ms.append(_step_ms(model))
            for step_ms in beside_ms[:-1]:  # the copy ended during the last
                timings.add(model.name, "decode beside", step_ms)
                timings.add(model.name, "decode alone", _step_ms(model))
                num_steps += 1
    stage.device.copies.close()


def _step_ms(model: LoadedModel) -> float:
    started_at_s = time.perf_counter()
    model.executor.step(next_token(model))
    return (time.perf_counter() - started_at_s) * 1e3
