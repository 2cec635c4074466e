"""Which models' weights have a place: the production arena and its evictions, without bytes."""

from collections.abc import Sequence

from gpu_worker.memory.arena import Arena
from gpu_worker.memory.eviction import Place, plan_cheapest_eviction
from shared.ids import ModelName


class SimulatedWeights:
    """gpu_worker/weights.py::ArenaWeights says the same of real memory."""

    def __init__(self, region_bytes: int) -> None:
        self._arena = Arena(region_bytes)
        self._offsets: dict[ModelName, int] = {}
        self._coming: set[ModelName] = set()  # placed, not settled: not to be used or evicted
        self._places: dict[ModelName, Place] = {}  # of every model that ever had one

    def is_resident(self, model: ModelName) -> bool:
        return model in self._offsets and model not in self._coming

    def place(
        self, model: ModelName, num_bytes: int, evictable: Sequence[ModelName], turns: Sequence[ModelName]
    ) -> bool:
        """False, and nothing changed, where it does not fit."""
        residents = [(name, self._offsets[name]) for name in evictable if self.is_resident(name)]
        former = self._places.get(model, Place(num_bytes, None))
        evicted = plan_cheapest_eviction(self._arena, model, self._places | {model: former}, residents, turns)
        if evicted is None:
            return False
        for name in evicted:
            self.drop(name)
        offset = self._arena.allocate(num_bytes, former.last_offset)
        assert offset is not None, "who was evicted made room"
        self._offsets[model], self._places[model] = offset, Place(num_bytes, offset)
        self._coming.add(model)
        return True

    def settle(self, model: ModelName) -> None:
        self._coming.remove(model)

    def drop(self, model: ModelName) -> None:
        self._arena.free(self._offsets.pop(model))
        self._coming.discard(model)
