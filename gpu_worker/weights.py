"""Where models' weights lie: in the device arena, or (unified memory) right in the host cache.

Bookkeeping belongs to the engine loop; `Placement.copy` is what the device thread runs.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gpu_worker.device.base import Device
from gpu_worker.memory.arena import Arena, plan_eviction
from shared.errors import ConfigError, ModelError
from shared.ids import ModelName


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model's weights lie, and what has to be copied there first."""

    base: Tensor  # [blob_bytes] uint8, device
    source: Tensor | None  # [blob_bytes] uint8, host; None: the weights are there

    def copy(self, device: Device) -> None:
        """Returns when the bytes are there."""
        if self.source is not None:
            device.copy(self.base, self.source).wait()


class Weights(Protocol):
    def is_resident(self, model: ModelName) -> bool: ...

    def place(self, model: ModelName, blob: Tensor, turn_order: Sequence[ModelName]) -> Placement:
        """A place for the model's blob ([blob_bytes] uint8, host), evicting from the end of `turn_order`."""

    def drop(self, model: ModelName) -> None:
        """Its copy failed: it is not resident after all."""


class UnifiedWeights:
    """Host memory is device memory: every cached model is resident where it lies."""

    def __init__(self, host_cache: Container[ModelName]) -> None:
        self._host_cache = host_cache

    def is_resident(self, model: ModelName) -> bool:
        return model in self._host_cache

    def place(self, model: ModelName, blob: Tensor, turn_order: Sequence[ModelName]) -> Placement:
        return Placement(blob, None)

    def drop(self, model: ModelName) -> None:
        return None


class ArenaWeights:
    """A weight region of the device; each resident model takes one contiguous range of it."""

    def __init__(self, region: Tensor) -> None:
        """region: [num_bytes] uint8, device."""
        self._region = region
        self._arena = Arena(region.numel())
        self._offsets: dict[ModelName, int] = {}  # resident models
        self._former: dict[ModelName, int] = {}  # of every model ever placed: views of that address may still exist

    def is_resident(self, model: ModelName) -> bool:
        return model in self._offsets

    def place(self, model: ModelName, blob: Tensor, turn_order: Sequence[ModelName]) -> Placement:
        num_bytes = blob.numel()
        offset = self._offsets.get(model)
        source = None
        if offset is None:
            offset, source = self._allocate(model, num_bytes, turn_order), blob
        return Placement(self._region[offset : offset + num_bytes], source)

    def drop(self, model: ModelName) -> None:
        offset = self._offsets.pop(model, None)
        if offset is not None:
            self._arena.free(offset)

    def _allocate(self, model: ModelName, num_bytes: int, turn_order: Sequence[ModelName]) -> int:
        residents = [(name, self._offsets[name]) for name in turn_order if name in self._offsets]
        evicted = plan_eviction(self._arena, num_bytes, residents)
        if evicted is None:
            raise ModelError(f"{num_bytes} bytes of weights don't fit the device's {self._region.numel()}")
        for name in evicted:
            self.drop(name)
        offset = self._arena.allocate(num_bytes, self._former.get(model))
        assert offset is not None, "plan_eviction made room"
        self._offsets[model] = self._former[model] = offset
        return offset


def check_fits(model: ModelName, blob_bytes: int, region_bytes: int) -> None:
    """Raises ConfigError for a model that could never be resident."""
    if Arena(region_bytes).rounded(blob_bytes) > Arena(region_bytes).total_bytes:
        raise ConfigError(
            f"model {model!r} needs {blob_bytes} bytes of weights, the device has {region_bytes} for them: "
            "raise worker.device_memory_bytes or lower worker.kv_memory_bytes"
        )
