"""Moves the boundary between weights and KV: gives slabs to a model that has no place, takes them back for sequences.

`memory/split.py` says when. What is under copy does not move, and neither weights nor blocks in use do: KV gives slabs
that are free or hold only kept blocks, weights give ranges of models without work.
"""

from collections.abc import Callable, Iterable

from gpu_worker.kv.store import KvStore
from gpu_worker.memory.slab_pool import ShapeClass
from gpu_worker.memory.split import KvUse, SplitLimits, may_lend, may_take_back
from gpu_worker.sequence import Sequence
from gpu_worker.weights import ArenaWeights
from shared.ids import ModelName


class Split:
    """Slab n of the pool begins `n * slab_bytes` after `origin_bytes` of the reservation."""

    def __init__(
        self,
        kv: KvStore,
        weights: ArenaWeights,
        limits: SplitLimits,
        origin_bytes: int,
        has_work: Callable[[ModelName], bool],
    ) -> None:
        self._kv = kv
        self._slabs = kv.device_slabs
        self._weights = weights
        self._limits = limits
        self._origin_bytes = origin_bytes
        self._has_work = has_work
        self._num_bytes: dict[ModelName, int] = {}  # of weights
        weights.on_short = self._extend_weights
        kv.on_short = self._extend_kv

    def expect(self, model: ModelName, num_bytes: int) -> None:
        """A model with so many bytes of weights is served from now on."""
        self._num_bytes[model] = num_bytes

    def forget(self, model: ModelName) -> None:
        self._num_bytes.pop(model, None)

    def can_place(self, model: ModelName) -> bool:
        """Whether weights have as many bytes as the model alone needs, or get them now."""
        num_slabs = self._slabs_for(model)
        return num_slabs <= 0 or self._lend(num_slabs, must=True)

    def in_the_way(self, model: ModelName) -> set[Sequence]:
        """Sequences in the slabs that the model needs beside what weights have."""
        return self._slabs.holders(self._slabs_for(model))

    def _slabs_for(self, model: ModelName) -> int:
        return self._slabs_until(self._weights.rounded(self._num_bytes[model]))

    # --- asked by the two sides -----------------------------------------------------------------

    def _extend_weights(self, end_bytes: int, evicted: Iterable[ModelName] | None) -> bool:
        """A model could be placed up to `end_bytes`, or else where others are that would go (None: nowhere)."""
        if evicted is not None and not any(map(self._has_work, evicted)):
            return False
        num_slabs = self._slabs_until(end_bytes)
        return num_slabs > 0 and self._lend(num_slabs, must=False)

    def _lend(self, num_slabs: int, *, must: bool) -> bool:
        if not may_lend(self._limits, self._kv_use(), num_slabs, must=must) or not self._slabs.lend(num_slabs):
            return False
        self._weights.resize(self._boundary_bytes())
        return True

    def _extend_kv(self, shape: ShapeClass, num_missing: int) -> bool:
        """Slabs for so many more blocks, from models without work; one with work can always be placed alone."""
        num_slabs = -(-num_missing // shape.blocks_per_slab)
        if not may_take_back(self._limits, self._kv_use(), num_slabs):
            return False
        end_bytes = self._boundary_bytes() - num_slabs * self._slabs.slab_bytes
        leaving = self._weights.placed_beyond(end_bytes)
        if end_bytes < 0 or leaving is None or any(map(self._has_work, leaving)):
            return False
        sizes = (
            self._weights.rounded(num_bytes) for name, num_bytes in self._num_bytes.items() if self._has_work(name)
        )
        if max(sizes, default=0) > self._weights.usable(end_bytes):
            return False
        for model in leaving:
            self._weights.drop(model)
        self._weights.resize(end_bytes)
        self._slabs.take_back(num_slabs)
        return True

    def _kv_use(self) -> KvUse:
        return KvUse(len(self._slabs), self._slabs.slab_bytes, self._kv.device_used_bytes)

    def _boundary_bytes(self) -> int:
        return self._origin_bytes + self._slabs.first * self._slabs.slab_bytes

    def _slabs_until(self, end_bytes: int) -> int:
        """How many slabs KV has to give so that weights reach to `end_bytes`."""
        return -(-(end_bytes - self._boundary_bytes()) // self._slabs.slab_bytes)
