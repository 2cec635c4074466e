"""Brings models' weights to the device: when their turn comes, ahead of it, or while their first step runs.

All bookkeeping happens in the engine's loop. At most two models are on their way: one ahead of its turn, and the one
whose turn it is.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from gpu_worker.device.base import Device, Transfer
from gpu_worker.execution.streaming import Stream, StreamOrder
from gpu_worker.scheduling.prefetch import coming_turns, evictable_ahead, next_missing
from gpu_worker.served_model import ServedModel
from gpu_worker.weights import Placement, Weights
from shared.errors import ModelError
from shared.ids import ModelName

Kind = Literal["resident", "prefetched", "streamed", "copied", "from disk"]


class BlobSource(Protocol):
    def get(self, model: ModelName) -> Tensor | None:
        """[blob_bytes] uint8, host, for use now; None when it is not in host memory."""


@dataclass(slots=True)
class CopyTime:
    """When weights were copied beside steps."""

    started_at_s: float
    ended_at_s: float | None = None

    def seconds(self, now_s: float) -> float:
        """So far, while it has not ended."""
        return (now_s if self.ended_at_s is None else self.ended_at_s) - self.started_at_s


class Arrival(NamedTuple):
    """Weights that a step may use now; where there is a stream, only through it."""

    base: Tensor  # [blob_bytes] uint8, device
    kind: Kind
    stream: Stream | None = None
    copy_time: CopyTime | None = None  # where they were copied beside steps for this turn


@dataclass(eq=False, slots=True)
class _Coming:
    """A model on its way."""

    placement: Placement
    blob: Tensor
    transfer: Transfer
    ahead: bool  # of its turn
    copy_time: CopyTime
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Prefetches:
    """Models brought in ahead of their turn, since the start."""

    num_started: int = 0
    num_used: int = 0  # when their turn came they were there, or on their way
    num_wasted: int = 0  # they gave way before it


class Loader:
    def __init__(
        self,
        device: Device,
        weights: Weights,
        blobs: BlobSource,
        models: Mapping[ModelName, ServedModel],
        turn_order: Callable[[], list[ModelName]],
        on_device: Callable[[Callable[[], None]], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = device
        self._weights = weights
        self._blobs = blobs
        self._models = models
        self._turn_order = turn_order  # soonest first
        self._on_device = on_device  # runs what takes long, while no step runs
        self._clock = clock
        self.prefetches = Prefetches()
        self._coming: dict[ModelName, _Coming] = {}
        self._prefetched: dict[ModelName, CopyTime] = {}  # resident, and not used since
        self._in_use: ModelName | None = None  # whose step runs or comes next: never evicted
        self.no_place_ahead: ModelName | None = None  # scheduling/policy.py::WorkerView

    async def bring(self, model: ModelName) -> Arrival:
        """The model whose turn it is, and which is at hand. Raises KottosError."""
        self._in_use = model
        copy_time = self._prefetched.pop(model, None)  # or it was evicted before its turn
        base = self._weights.resident(model)
        if copy_time is not None:
            self.prefetches.num_used += base is not None
            self.prefetches.num_wasted += base is None
        if base is not None:
            return Arrival(base, "prefetched" if copy_time else "resident", copy_time=copy_time)
        coming = self._coming.get(model)
        if coming is None:
            blob = self._blobs.get(model)
            assert blob is not None, "turns are for models at hand"
            placement = await self._make_place(model, blob)
            if self._device.copies is None or self._order(model) is None:
                await self._copy(model, placement)
                return Arrival(placement.base, "copied")
            coming = self._start(model, placement, blob, ahead=False)
        self.prefetches.num_used += coming.ahead
        coming.transfer.hurry()
        return Arrival(coming.placement.base, "streamed", Stream(coming.transfer, coming.blob), coming.copy_time)

    def prefetch(self) -> None:
        """Begins to bring in the model whose turn comes next, if a copy costs the running step nothing."""
        if self._device.copies is None or self._coming:
            return
        self.no_place_ahead = None
        if next_missing(self._models, list(self._models), self._in_use) is None:  # in whatever order
            return
        order = self._turn_order()
        model = next_missing(self._models, order, self._in_use)
        if model is None or self._order(model) is None:
            return
        evictable, blob = evictable_ahead(self._models, order, self._in_use, model), self._blobs.get(model)
        assert evictable is not None and blob is not None, "it has a turn coming, and is at hand"
        evictable = self._unpinned(evictable)
        turns = coming_turns(self._models, order, self._in_use)
        placement = self._weights.place(model, blob, evictable, [name for name in turns if name != model])
        if placement is not None:
            self._start(model, placement, blob, ahead=True)
        elif turns[0] == model:
            self.no_place_ahead = model

    async def settle_in(self, model: ModelName) -> bool:
        """A pinned model, while no step runs; unpinned ones may go for it. False: it has no place, or comes already."""
        blob = self._blobs.get(model)
        if blob is None or model in self._coming:
            return False
        placement = self._weights.place(model, blob, self._unpinned(name for name in self._models if name != model))
        if placement is None:
            return False
        await self._copy(model, placement)
        return True

    @property
    def copies_beside_steps(self) -> bool:
        return self._device.copies is not None

    @property
    def is_bringing(self) -> bool:
        """A model is on its way."""
        return bool(self._coming)

    def begin(self, model: ModelName) -> bool:
        """Begins to bring it in beside steps; unpinned ones without work may go for it. False: it has no place."""
        blob = self._blobs.get(model)
        if blob is None or self._order(model) is None:
            return False
        others = ((name, other) for name, other in self._models.items() if name != model)
        idle = self._unpinned(name for name, other in others if not (other.running or other.waiting))
        placement = self._weights.place(model, blob, idle)
        if placement is None:
            return False
        self._start(model, placement, blob, ahead=True)
        return True

    async def forget(self, model: ModelName) -> None:
        """What is on its way stops, its place is free. Between two steps."""
        await self._stop(model)
        self.prefetches.num_wasted += self._prefetched.pop(model, None) is not None
        if self._in_use == model:
            self._in_use = None
        if self.no_place_ahead == model:
            self.no_place_ahead = None
        self._weights.forget(model)

    async def close(self) -> None:
        """Nothing is on its way any more."""
        for model in list(self._coming):
            await self._stop(model)

    def _unpinned(self, models: Iterable[ModelName]) -> list[ModelName]:
        return [name for name in models if not self._models[name].is_pinned]

    async def _stop(self, model: ModelName) -> None:
        if (coming := self._coming.get(model)) is not None:
            coming.transfer.cancel()
            await coming.ended.wait()

    async def _make_place(self, model: ModelName, blob: Tensor) -> Placement:
        order = self._turn_order()
        others, turns = [name for name in order if name != model], coming_turns(self._models, order, self._in_use)
        evictable = self._unpinned(others)
        while (placement := self._weights.place(model, blob, evictable, turns)) is None:
            if not self._coming and evictable == others:
                raise ModelError(f"{blob.numel()} bytes of weights don't fit the device")
            if not self._coming:
                evictable = others  # it has no place else
            for other in list(self._coming):  # what came ahead of its turn gives way
                await self._stop(other)
        return placement

    async def _copy(self, model: ModelName, placement: Placement) -> None:
        try:
            await self._on_device(lambda: placement.copy(self._device))
        except BaseException:
            self._weights.drop(model)
            raise
        self._weights.settle(model)

    def _start(self, model: ModelName, placement: Placement, blob: Tensor, *, ahead: bool) -> _Coming:
        assert self._device.copies is not None
        order = self._order(model)
        assert order is not None
        self.prefetches.num_started += ahead
        copy_time = CopyTime(self._clock())
        transfer = self._device.copies.start(order.pieces(placement.base, blob), urgent=not ahead)
        coming = self._coming[model] = _Coming(placement, blob, transfer, ahead, copy_time)
        loop = asyncio.get_running_loop()
        transfer.when_ended(lambda: loop.call_soon_threadsafe(self._on_ended, model, coming))
        return coming

    def _on_ended(self, model: ModelName, coming: _Coming) -> None:
        del self._coming[model]
        coming.copy_time.ended_at_s = self._clock()
        if coming.transfer.arrived_bytes == coming.transfer.num_bytes:
            self._weights.settle(model)
            if coming.ahead and model != self._in_use:
                self._prefetched[model] = coming.copy_time
        else:
            self.prefetches.num_wasted += coming.ahead and model != self._in_use
            self._weights.drop(model)
        coming.ended.set()

    def _order(self, model: ModelName) -> StreamOrder | None:
        return self._models[model].executor.stream_order
