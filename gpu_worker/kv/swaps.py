"""KV of sequences on its way between the device and host memory.

A block under copy, at either end, belongs to the swap until the copy has ended, whatever becomes of its sequence
meanwhile; the sequence has no blocks then, and is not ready.
"""

import logging
from dataclasses import dataclass
from enum import Enum

from gpu_worker.device.base import Event
from gpu_worker.kv.content import Content
from gpu_worker.kv.holders import Holders
from gpu_worker.kv.memory import Copies, KvRegion
from gpu_worker.memory.slab_pool import ShapeClass
from gpu_worker.sequence import Sequence

log = logging.getLogger(__name__)


class Side(Enum):
    DEVICE = "device"
    HOST = "host"


@dataclass(slots=True)
class _Swap:
    sequence: Sequence | None  # None: it has ended, or wants none of it any more
    device_blocks: list[int]
    host_blocks: list[int]
    host_first: int  # index in the sequence of the first host block
    event: Event
    kept: Side  # whose blocks the sequence has at the end


class Swaps:
    """At most one of a sequence; bounded by the blocks that there are."""

    def __init__(
        self, on_device: KvRegion, in_host: KvRegion, copies: Copies, content: Content, holders: Holders
    ) -> None:
        self._on_device = on_device
        self._in_host = in_host
        self._copies = copies
        self._content = content
        self._holders = holders
        self._swaps: list[_Swap] = []

    def has(self, sequence: Sequence) -> bool:
        return self._of(sequence) is not None

    def will_free_device_blocks(self) -> bool:
        """When a copy ends."""
        return any(swap.sequence is None or swap.kept is Side.HOST for swap in self._swaps)

    def bring_in(
        self,
        shape: ShapeClass,
        sequence: Sequence,
        device_blocks: list[int],
        host_blocks: list[int],
        *,
        host_first: int,
        num_there: int,
    ) -> None:
        """host_blocks: of the sequence's blocks from `host_first` on; the device has its first `num_there`."""
        pairs = list(zip(device_blocks[num_there:], host_blocks[num_there - host_first :], strict=False))
        event = self._copies.start(self._on_device, self._in_host, shape, pairs)
        self._begin(sequence, _Swap(sequence, device_blocks, host_blocks, host_first, event, Side.DEVICE))

    def send_out(
        self,
        shape: ShapeClass,
        sequence: Sequence,
        device_blocks: list[int],
        host_blocks: list[int],
        *,
        num_there: int,
    ) -> None:
        """The host has its first `num_there` blocks."""
        pairs = list(zip(host_blocks[num_there:], device_blocks[num_there:], strict=True))
        event = self._copies.start(self._in_host, self._on_device, shape, pairs)
        self._begin(sequence, _Swap(sequence, device_blocks, host_blocks, 0, event, Side.HOST))

    def turn_back(self, sequence: Sequence) -> bool:
        """One under way stays in host memory, where that has all of it."""
        swap = self._of(sequence)
        if swap is None or swap.host_first != 0:
            return False
        swap.kept = Side.HOST
        return True

    def abandon(self, sequence: Sequence) -> bool:
        """Nobody wants what is under way for it, if anything is."""
        if (swap := self._of(sequence)) is None:
            return False
        swap.sequence = None
        return True

    def settle(self) -> bool:
        """Takes note of the copies that have ended: their blocks are free, their sequences ready. Whether any has."""
        ended = [swap for swap in self._swaps if swap.event.done()]
        for swap in ended:
            self._swaps.remove(swap)
            self._end(swap)
        return bool(ended)

    def _of(self, sequence: Sequence) -> _Swap | None:
        return next((swap for swap in self._swaps if swap.sequence is sequence), None)

    def _begin(self, sequence: Sequence, swap: _Swap) -> None:
        self._swaps.append(swap)
        sequence.block_ids, sequence.host_block_ids = [], []
        sequence.is_ready = False

    def _end(self, swap: _Swap) -> None:
        device, host, sequence = self._on_device.blocks, self._in_host.blocks, swap.sequence
        try:
            swap.event.wait()
        except Exception:
            log.exception("a copy of KV failed")
            if sequence is not None:  # it is computed again
                forget_kv(sequence)
                sequence = None
        if sequence is not None:
            sequence.is_ready = True
        if sequence is not None and swap.kept is Side.DEVICE:
            sequence.block_ids = swap.device_blocks
            self._holders.add(sequence, swap.device_blocks)
        else:
            device.free(swap.device_blocks)
        if sequence is not None and swap.kept is Side.HOST:
            keys = self._content.keys(sequence, sequence.num_computed_tokens)
            full = [host.publish(block_id, key) for block_id, key in zip(swap.host_blocks, keys, strict=False)]
            sequence.host_block_ids = [*full, *swap.host_blocks[len(full) :]]
        else:
            host.free(swap.host_blocks)


def forget_kv(sequence: Sequence) -> None:
    """None of it is anywhere: it is computed from the first token on."""
    sequence.block_ids, sequence.host_block_ids = [], []
    sequence.num_computed_tokens = sequence.num_published_blocks = 0
    sequence.is_ready = True
