"""Moves blocks within the device's memory, a bounded number of bytes between two steps, so that whole slabs get free.

`begin` reserves places, `Moves.copy` runs on the device thread, `end` tells the blocks' users. Nobody else touches
blocks in between: the loop waits, and the copy is as short as its bound.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from gpu_worker.device.base import Device
from gpu_worker.kv.holders import Holders
from gpu_worker.kv.memory import KvRegion
from gpu_worker.memory.compaction import num_blocks_to_move
from gpu_worker.memory.slab_pool import ShapeClass

log = logging.getLogger(__name__)

MOST_BYTES: Final = 2 << 20  # between two steps, or one block where that is larger


@dataclass(frozen=True, slots=True)
class Moves:
    """Blocks of one class on their way to other places of the same memory; both are taken meanwhile."""

    shape: ShapeClass
    pairs: list[tuple[int, int]]  # block id, where it goes
    region: KvRegion
    device: Device

    def copy(self) -> None:
        """Returns when the bytes are there. While no step runs, after all that did."""
        quantum_bytes, num_bytes = self.region.blocks.quantum_bytes, self.shape.block_bytes
        region = self.region.region
        starts = [(block_id * quantum_bytes, new_id * quantum_bytes) for block_id, new_id in self.pairs]
        events = [
            self.device.copy(region[into : into + num_bytes], region[out_of : out_of + num_bytes])
            for out_of, into in starts
        ]
        for event in events:
            event.wait()


class Compaction:
    def __init__(self, on_device: KvRegion, device: Device, holders: Holders) -> None:
        self._on_device = on_device
        self._device = device
        self._holders = holders
        self._moves: Moves | None = None

    @property
    def is_moving(self) -> bool:
        return self._moves is not None

    async def advance(self, on_device: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        """Between two steps. on_device: runs what it gets while no step runs."""
        moves = self.begin()
        if moves is None:
            return
        arrived = False
        try:
            await on_device(moves.copy)
            arrived = True
        except Exception:
            log.exception("blocks of KV could not be moved")
        finally:
            self.end(moves, arrived=arrived)

    def begin(self, most_bytes: int = MOST_BYTES) -> Moves | None:
        """None where it would gain nothing, or a copy to or from host memory is in its way."""
        assert self._moves is None
        blocks = self._on_device.blocks
        slab = blocks.slab_to_empty()
        if slab is None:
            return None
        leaving = blocks.blocks_in(slab.number)
        if not self._can_move(leaving):
            return None
        leaving = leaving[: num_blocks_to_move(slab, most_bytes)]
        pairs = list(zip(leaving, blocks.reserve_beside(slab, len(leaving)), strict=True))
        self._moves = Moves(slab.shape, pairs, self._on_device, self._device)
        return self._moves

    def end(self, moves: Moves, *, arrived: bool) -> None:
        """Whoever has the blocks has the new ones; where they did not arrive, all is as it was."""
        assert self._moves is moves
        self._moves = None
        if not arrived:
            self._on_device.blocks.cancel_reserved(moves.shape, [new_id for _, new_id in moves.pairs])
            return
        for block_id, new_id in moves.pairs:
            self._on_device.blocks.move(block_id, new_id)
            self._holders.move(block_id, new_id)

    def _can_move(self, block_ids: Iterable[int]) -> bool:
        """Whether nobody has them but sequences at rest: a copy's blocks stay where they are."""
        blocks = self._on_device.blocks
        return all(blocks.num_users(block_id) == len(self._holders.of(block_id)) for block_id in block_ids)
