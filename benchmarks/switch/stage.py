"""A device with the worker's loader on it, without engine or bus: what a switch is made of can be timed alone."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from torch import Tensor

from benchmarks.models import LoadedModel
from gpu_worker.device.cpu import CpuDevice
from gpu_worker.execution.executor import StepPart
from gpu_worker.execution.streaming import Stream
from gpu_worker.host_cache.mapping import map_blob
from gpu_worker.loader import Loader
from gpu_worker.memory.arena import ALIGN_BYTES
from gpu_worker.weights import ArenaWeights, Placement
from shared.ids import ModelName

PROMPT_TOKENS: Final = 128
MAX_TOKENS: Final = PROMPT_TOKENS + 16


class WatchedWeights(ArenaWeights):
    """Says when a model has a place, and when it is resident."""

    def __init__(self, region: Tensor) -> None:
        super().__init__(region)
        self._changed = asyncio.Event()
        self._with_place: set[ModelName] = set()

    def place(self, model: ModelName, *details: Any, **named: Any) -> Placement | None:
        placement = super().place(model, *details, **named)
        if placement is not None:
            self._with_place.add(model)
            self._changed.set()
        return placement

    def settle(self, model: ModelName) -> None:
        super().settle(model)
        self._changed.set()

    def drop(self, model: ModelName) -> None:
        super().drop(model)
        self._with_place.discard(model)

    async def until_placed(self, model: ModelName) -> None:
        await self._until(lambda: model in self._with_place)

    async def until_resident(self, model: ModelName) -> None:
        await self._until(lambda: self.is_resident(model))

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


class Stage:
    """Room for weights of `room_bytes`."""

    def __init__(self, models: Sequence[LoadedModel], room_bytes: int, link_bytes_per_s: float | None) -> None:
        self.models = {model.name: model for model in models}
        self.turns = list(self.models)  # soonest first; every model always has work
        self.device = CpuDevice(unified=False, link_bytes_per_s=link_bytes_per_s)
        self.blobs = {model.name: map_blob(model.weights_file, model.blob_bytes) for model in models}
        self.weights = WatchedWeights(self.device.allocate(room_bytes).zero_())
        served = {name: _Served(model, self.weights) for name, model in self.models.items()}
        self.loader = Loader(self.device, self.weights, self, cast(Any, served), lambda: self.turns, self._on_device)

    def get(self, model: ModelName) -> Tensor:
        return self.blobs[model]

    async def _on_device(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(None, work)

    async def bring(self, model: ModelName) -> tuple[float, Stream | None]:
        """Milliseconds until the first operation may run."""
        started_at_s = time.perf_counter()
        arrival = await self.loader.bring(model)
        self.models[model].executor.bind(arrival.base)
        return (time.perf_counter() - started_at_s) * 1e3, arrival.stream

    def drop(self, *models: ModelName) -> None:
        """Those of them that are resident are not any more."""
        for model in models:
            if self.weights.is_resident(model):
                self.weights.drop(model)


class _Served:
    """What the loader looks at."""

    running, waiting = (None,), ()
    is_at_hand, is_pinned = True, False

    def __init__(self, model: LoadedModel, weights: ArenaWeights) -> None:
        self.executor = model.executor
        self.name, self._weights = model.name, weights

    @property
    def is_resident(self) -> bool:
        return self._weights.is_resident(self.name)


def room_for_one(models: Sequence[LoadedModel]) -> int:
    return max(model.blob_bytes for model in models) + ALIGN_BYTES


def room_for_all(models: Sequence[LoadedModel]) -> int:
    return sum(model.blob_bytes + ALIGN_BYTES for model in models)


def prompt(model: LoadedModel) -> list[StepPart]:
    return [StepPart(model.span(0, 0, PROMPT_TOKENS), list(range(100, 100 + PROMPT_TOKENS)), None)]


def next_token(model: LoadedModel) -> list[StepPart]:
    """A decode step after the prompt."""
    return [StepPart(model.span(0, PROMPT_TOKENS, 1), [100], None)]
