"""Two memories of KV, and copies of blocks between them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from gpu_worker.device.base import Device, Event
from gpu_worker.kv.counts import KvCounts
from gpu_worker.memory.prefix_index import SharedBlocks
from gpu_worker.memory.slab_pool import ShapeClass


@dataclass(frozen=True, slots=True)
class KvRegion:
    """A memory of KV and its bookkeeping."""

    blocks: SharedBlocks
    region: Tensor  # [blocks.total_bytes] uint8


class Copies:
    """Starts copies beside the steps."""

    def __init__(self, device: Device, in_host: KvRegion, counts: KvCounts) -> None:
        self._device = device
        self._in_host = in_host
        self._counts = counts
        self.on_done: Callable[[], None] = lambda: None  # called from whatever thread at each copy's end

    def start(
        self, destination: KvRegion, source: KvRegion, shape: ShapeClass, blocks: Iterable[tuple[int, int]]
    ) -> Event:
        """blocks: ids in destination and source."""
        quantum_bytes = source.blocks.quantum_bytes
        offsets = [(into * quantum_bytes, out_of * quantum_bytes) for into, out_of in blocks]
        to = "host" if destination is self._in_host else "device"
        self._counts.copies[to] += 1
        self._counts.copied_bytes[to] += len(offsets) * shape.block_bytes
        return self._device.copy_blocks(
            destination.region, source.region, offsets, shape.block_bytes, lambda: self.on_done()
        )
