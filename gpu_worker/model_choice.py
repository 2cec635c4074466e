"""Which models a worker takes at all, where its policy never switches."""

from collections.abc import Sequence

from gpu_worker.memory.arena import Arena
from shared.config import PolicyName
from shared.errors import ModelError
from shared.ids import ModelName
from shared.units import format_size


class ModelChoice:
    """Every model, unless the policy is `dedicated` (one model per worker) or `static` (what stays resident together).

    region_bytes: of the weight region, or of the host model cache where memory is unified.
    place: of this worker among those of the machine, counted from 0.
    """

    def __init__(self, policy: PolicyName, models: Sequence[ModelName], place: int, region_bytes: int) -> None:
        self._is_dedicated = policy == "dedicated"
        self._own = models[place % len(models)] if self._is_dedicated and models else None
        self._is_static = policy == "static"
        self._region = Arena(region_bytes)
        self._offsets: dict[ModelName, int] = {}  # in the region, under `static`

    def check_own(self, model: ModelName) -> None:
        """Raises ModelError for a model that another worker would have to take."""
        if not self._is_dedicated:
            return
        if self._own is None:
            self._own = model
        if self._own != model:
            raise ModelError(
                f"model {model!r} has no place here: with worker.policy = dedicated this worker serves {self._own!r} "
                "alone; raise worker.num_workers or choose another worker.policy"
            )

    def take(self, model: ModelName, blob_bytes: int) -> None:
        """Gives it a place until it is released. Raises ModelError where none is left."""
        if not self._is_static:
            return
        if (offset := self._region.allocate(blob_bytes)) is None:
            raise ModelError(
                f"model {model!r} needs {format_size(self._region.rounded(blob_bytes))} of weights, of "
                f"{format_size(self._region.total_bytes)} {format_size(self._region.free_bytes)} are left: with "
                "worker.policy = static all models stay resident; raise worker.device_memory or choose another "
                "worker.policy"
            )
        self._offsets[model] = offset

    def release(self, model: ModelName) -> None:
        """It is served no more: another one may have its place."""
        if self._own == model:
            self._own = None
        if (offset := self._offsets.pop(model, None)) is not None:
            self._region.free(offset)


def place_of(worker: str) -> int:
    """The number at the end of a worker's id, as `kottos serve` gives them; 0 where there is none."""
    digits = worker.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0
