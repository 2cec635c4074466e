"""What the device keeps for later goes to host memory ahead of need, so that making room costs no copy then."""

import logging
from dataclasses import dataclass
from math import ceil
from typing import Final

from gpu_worker.device.base import Event
from gpu_worker.kv.memory import Copies, KvRegion
from gpu_worker.memory.prefix_index import BlockKey
from gpu_worker.memory.slab_pool import OutOfBlocks, ShapeClass

log = logging.getLogger(__name__)

_LEAST_FREE: Final = 1 / 8  # of the device's memory for KV: with less, what is kept moves out
_ENOUGH_FREE: Final = 1 / 4  # until so much is free
_BATCH_BLOCKS: Final = 16


@dataclass(frozen=True, slots=True)
class _Batch:
    """Under copy; used by the batch at both ends until its event."""

    shape: ShapeClass
    device_blocks: list[int]
    host_blocks: list[int]
    keys: list[BlockKey]
    event: Event


class Demotion:
    """One batch of the oldest kept blocks at a time."""

    def __init__(self, on_device: KvRegion, in_host: KvRegion, copies: Copies) -> None:
        self._on_device = on_device
        self._in_host = in_host
        self._copies = copies
        self._batch: _Batch | None = None

    @property
    def pinned_bytes(self) -> int:
        """Device memory of blocks that only a batch uses, or that somebody has found again meanwhile."""
        return len(self._batch.device_blocks) * self._batch.shape.block_bytes if self._batch else 0

    def advance(self) -> bool:
        """Ends a batch whose copy has ended, starts the next where free memory is short. Whether one has ended."""
        has_ended = self._batch is not None and self._batch.event.done()
        if self._batch is not None and has_ended:
            self._end(self._batch)
            self._batch = None
        while self._batch is None and self._free_share() < _LEAST_FREE:
            if not self._begin():
                break
        return has_ended

    def _free_share(self) -> float:
        blocks = self._on_device.blocks
        return 1 - (blocks.used_bytes + blocks.kept_bytes) / blocks.total_bytes

    def _begin(self) -> bool:
        """Whether anything was done; nothing is where nothing is kept, or host memory is full of what sequences use."""
        device, host = self._on_device.blocks, self._in_host.blocks
        oldest = device.oldest_kept(_BATCH_BLOCKS)
        if not oldest:
            return False
        shape = oldest[0][2]
        missing_bytes = (_ENOUGH_FREE - self._free_share()) * device.total_bytes
        oldest = oldest[: ceil(missing_bytes / shape.block_bytes)]
        is_known = [(block_id, key) for block_id, key, _ in oldest if key in host]
        for block_id, _ in is_known:
            device.use(block_id)
            device.drop(block_id)
        moving = [(block_id, key) for block_id, key, _ in oldest if key not in host]
        host_blocks = host.allocate(shape, len(moving)) if moving else []
        if isinstance(host_blocks, OutOfBlocks) or not host_blocks:
            return bool(is_known)
        device_blocks = [block_id for block_id, _ in moving]
        for block_id in device_blocks:
            device.use(block_id)
        pairs = zip(host_blocks, device_blocks, strict=True)
        event = self._copies.start(self._in_host, self._on_device, shape, pairs)
        self._batch = _Batch(shape, device_blocks, host_blocks, [key for _, key in moving], event)
        return True

    def _end(self, batch: _Batch) -> None:
        """From leaf to root, as they were taken; the host lets go in the same order."""
        host_blocks = batch.host_blocks
        try:
            batch.event.wait()
        except Exception:
            log.exception("a copy of kept KV failed: it is dropped")
        else:
            host = self._in_host.blocks
            host_blocks = [host.publish(block_id, key) for block_id, key in zip(host_blocks, batch.keys, strict=True)]
        for block_id in batch.device_blocks:
            self._on_device.blocks.drop(block_id)
        self._in_host.blocks.free(reversed(host_blocks))
