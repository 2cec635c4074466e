"""Where models' weights lie: in the device arena, or (unified memory) right in the host cache.

Bookkeeping belongs to the engine loop; `Placement.copy` is what the device thread runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gpu_worker.device.base import Device
from gpu_worker.host_cache import HostCache
from gpu_worker.memory.arena import Arena, plan_eviction
from shared.errors import ConfigError, ModelError
from shared.ids import ModelName


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model's weights lie, and what has to be copied there first."""

    base: Tensor  # [blob_bytes] uint8, device
    source: Tensor | None  # [blob_bytes] uint8, host; None: they lie in host memory, which is the device's

    def copy(self, device: Device) -> None:
        """Returns when the bytes are there."""
        if self.source is not None:
            device.copy(self.base, self.source).wait()


class Weights(Protocol):
    def is_resident(self, model: ModelName) -> bool: ...

    def resident(self, model: ModelName) -> Tensor | None:
        """[blob_bytes] uint8, device: its weights, ready to be used; None when they have to be brought in."""

    def place(self, model: ModelName, blob: Tensor, turn_order: Sequence[ModelName]) -> Placement:
        """A place for the blob ([blob_bytes] uint8, host) of a model that is not resident; it counts as resident now.

        Evicts from the end of `turn_order`. Raises ModelError when it does not fit beside what must stay.
        """

    def drop(self, model: ModelName) -> None:
        """Its copy failed: it is not resident after all."""


class UnifiedWeights:
    """Host memory is device memory: every cached model is resident where it lies."""

    def __init__(self, host_cache: HostCache) -> None:
        self._host_cache = host_cache

    def is_resident(self, model: ModelName) -> bool:
        return model in self._host_cache

    def resident(self, model: ModelName) -> Tensor | None:
        return self._host_cache.get(model)

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
        self._residents: dict[ModelName, Tensor] = {}  # [blob_bytes] uint8, views of the region
        self._former: dict[ModelName, int] = {}  # of every model ever placed: views of that address may still exist

    def is_resident(self, model: ModelName) -> bool:
        return model in self._residents

    def resident(self, model: ModelName) -> Tensor | None:
        return self._residents.get(model)

    def place(self, model: ModelName, blob: Tensor, turn_order: Sequence[ModelName]) -> Placement:
        num_bytes = blob.numel()
        offset = self._allocate(model, num_bytes, turn_order)
        base = self._residents[model] = self._region[offset : offset + num_bytes]
        return Placement(base, blob)

    def drop(self, model: ModelName) -> None:
        base = self._residents.pop(model, None)
        if base is not None:
            self._arena.free(self._offset(base))

    def _allocate(self, model: ModelName, num_bytes: int, turn_order: Sequence[ModelName]) -> int:
        residents = [(name, self._offset(self._residents[name])) for name in turn_order if name in self._residents]
        evicted = plan_eviction(self._arena, num_bytes, residents)
        if evicted is None:
            raise ModelError(f"{num_bytes} bytes of weights don't fit the device's {self._region.numel()}")
        for name in evicted:
            self.drop(name)
        offset = self._arena.allocate(num_bytes, self._former.get(model))
        assert offset is not None, "plan_eviction made room"
        self._former[model] = offset
        return offset

    def _offset(self, base: Tensor) -> int:
        return base.data_ptr() - self._region.data_ptr()


def check_fits(model: ModelName, blob_bytes: int, region_bytes: int) -> None:
    """Raises ConfigError for a model that could never be resident."""
    if Arena(region_bytes).rounded(blob_bytes) > Arena(region_bytes).total_bytes:
        raise ConfigError(
            f"model {model!r} needs {blob_bytes} bytes of weights, the device has {region_bytes} for them: "
            "raise worker.device_memory_bytes or lower worker.kv_memory_bytes"
        )
