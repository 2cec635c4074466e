"""Where models' weights lie: in the device arena, or (unified memory) right in the host cache.

Bookkeeping belongs to the engine loop; `Placement.copy` is what the device thread runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gpu_worker.device.base import Device
from gpu_worker.memory.arena import Arena
from gpu_worker.memory.eviction import Place, plan_cheapest_eviction
from shared.errors import ConfigError
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

    def is_placed(self, model: ModelName) -> bool:
        """Resident, or on its way to be: then the host's copy is not needed for it to run."""

    def resident(self, model: ModelName) -> Tensor | None:
        """[blob_bytes] uint8, device: its weights, ready to be used; None when they have to be brought in."""

    def place(
        self, model: ModelName, blob: Tensor, evictable: Sequence[ModelName], turns: Sequence[ModelName] = ()
    ) -> Placement | None:
        """A place for the blob ([blob_bytes] uint8, host) of a model that has none; `settle` or `drop` follows.

        evictable, turns: models that may go, and others with work, whose turn comes soonest first. None when it does
        not fit beside what must stay.
        """

    def settle(self, model: ModelName) -> None:
        """Its bytes are there: it is resident now."""

    def drop(self, model: ModelName) -> None:
        """Its bytes did not come, or it is evicted."""

    def forget(self, model: ModelName) -> None:
        """It is served no more."""


class MappedBlobs(Protocol):
    """What this worker has mapped of the host model cache."""

    def __contains__(self, model: ModelName) -> bool: ...

    def get(self, model: ModelName) -> Tensor | None:
        """[blob_bytes] uint8, host, for use now."""


class UnifiedWeights:
    """Host memory is device memory: every mapped model is resident where it lies."""

    def __init__(self, blobs: MappedBlobs) -> None:
        self._blobs = blobs

    def is_resident(self, model: ModelName) -> bool:
        return model in self._blobs

    def is_placed(self, model: ModelName) -> bool:
        return model in self._blobs

    def resident(self, model: ModelName) -> Tensor | None:
        return self._blobs.get(model)

    def place(
        self, model: ModelName, blob: Tensor, evictable: Sequence[ModelName], turns: Sequence[ModelName] = ()
    ) -> Placement | None:
        return Placement(blob, None)

    def settle(self, model: ModelName) -> None:
        return None

    def drop(self, model: ModelName) -> None:
        return None

    def forget(self, model: ModelName) -> None:
        return None


class ArenaWeights:
    """A weight region of the device; each model that has a place takes one contiguous range of it."""

    def __init__(self, region: Tensor, num_bytes: int | None = None) -> None:
        """region: [...] uint8, device, of which weights have the first `num_bytes` at first (None: all)."""
        self._region = region
        self._arena = Arena(region.numel() if num_bytes is None else num_bytes)
        # Asked for room up to an end, instead of evicting these (None: nothing helps); whether it has come.
        self.on_short: Callable[[int, Sequence[ModelName] | None], bool] = lambda end_bytes, evicted: False
        self._placed: dict[ModelName, Tensor] = {}  # [blob_bytes] uint8, views of the region
        self._coming: set[ModelName] = set()  # placed, not settled: not to be used or evicted
        # Of every served model that ever had one: views of that address may still exist.
        self._places: dict[ModelName, Place] = {}

    def is_resident(self, model: ModelName) -> bool:
        return model in self._placed and model not in self._coming

    def is_placed(self, model: ModelName) -> bool:
        return model in self._placed

    def resident(self, model: ModelName) -> Tensor | None:
        return self._placed.get(model) if model not in self._coming else None

    def place(
        self, model: ModelName, blob: Tensor, evictable: Sequence[ModelName], turns: Sequence[ModelName] = ()
    ) -> Placement | None:
        assert model not in self._placed
        num_bytes = blob.numel()
        residents = [(name, self._offset(name)) for name in evictable if self.is_resident(name)]
        former = self._places.get(model, Place(num_bytes, None))
        evicted = plan_cheapest_eviction(self._arena, model, self._places | {model: former}, residents, turns)
        if evicted != [] and self.on_short(self._arena.free_tail + self.rounded(num_bytes), evicted):
            evicted = []
        if evicted is None:
            return None
        for name in evicted:
            self.drop(name)
        offset = self._arena.allocate(num_bytes, former.last_offset)
        assert offset is not None, "who was evicted made room"
        self._places[model] = Place(num_bytes, offset)
        self._coming.add(model)
        base = self._placed[model] = self._region[offset : offset + num_bytes]
        return Placement(base, blob)

    def settle(self, model: ModelName) -> None:
        self._coming.remove(model)

    def drop(self, model: ModelName) -> None:
        self._arena.free(self._offset(model))
        del self._placed[model]
        self._coming.discard(model)

    def forget(self, model: ModelName) -> None:
        if model in self._placed:
            self.drop(model)
        self._places.pop(model, None)

    # --- the split ------------------------------------------------------------------------------

    @property
    def total_bytes(self) -> int:
        return self._arena.total_bytes

    @property
    def free_bytes(self) -> int:
        return self._arena.free_bytes

    @property
    def largest_free_bytes(self) -> int:
        return self._arena.largest_free_range

    def rounded(self, num_bytes: int) -> int:
        """What weights of `num_bytes` take."""
        return self._arena.rounded(num_bytes)

    def usable(self, num_bytes: int) -> int:
        """What weights could have of so many bytes."""
        return num_bytes // self._arena.align_bytes * self._arena.align_bytes

    def placed_beyond(self, offset: int) -> list[ModelName] | None:
        """Models with a byte there; None where one of them is on its way."""
        beyond = [name for name, base in self._placed.items() if self._offset(name) + self.rounded(len(base)) > offset]
        return None if self._coming.intersection(beyond) else beyond

    def resize(self, num_bytes: int) -> None:
        """Weights have the first `num_bytes` of the region. Raises ValueError where a model lies beyond."""
        self._arena.resize(num_bytes)

    def _offset(self, model: ModelName) -> int:
        return self._placed[model].data_ptr() - self._region.data_ptr()


def check_fits(model: ModelName, blob_bytes: int, region_bytes: int) -> None:
    """Raises ConfigError for a model that could never be resident."""
    if Arena(region_bytes).rounded(blob_bytes) > Arena(region_bytes).total_bytes:
        raise ConfigError(
            f"model {model!r} needs {blob_bytes} bytes of weights, the device has {region_bytes} for them: "
            "raise worker.device_memory_bytes or lower worker.kv_memory_bytes"
        )
