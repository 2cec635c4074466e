"""Where sequences' KV lies: in blocks on the device, in host blocks, or on its way between them.

    nothing --extend--> device --swap_out--> host --swap_in--> device

Copies run beside the steps. A block under copy, at either end, stays taken until the copy has ended, whatever becomes
of its sequence meanwhile; a sequence under way is not ready, and nobody else waits for it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from gpu_worker.device.base import Device, Event
from gpu_worker.memory.slab_pool import OutOfBlocks, ShapeClass, SlabPool
from gpu_worker.scheduling.policy import order_key
from gpu_worker.sequence import Sequence

log = logging.getLogger(__name__)


class Side(Enum):
    DEVICE = "device"
    HOST = "host"


@dataclass(slots=True)
class _Move:
    """A sequence's KV under copy, whose blocks belong to the move until it has ended."""

    shape: ShapeClass
    device_blocks: list[int]
    host_blocks: list[int]
    event: Event
    kept: Side | None  # the side whose blocks the sequence has at the end; None: it wants neither any more


@dataclass(frozen=True, slots=True)
class KvMemory:
    """One region of KV and its bookkeeping."""

    pool: SlabPool
    region: Tensor  # [pool.total_bytes] uint8


class KvStore:
    """Used from the loop's thread only. Both pools have equal slabs and quanta, so a class is the same in both."""

    def __init__(self, on_device: KvMemory, in_host: KvMemory, device: Device) -> None:
        self._on_device = on_device
        self._in_host = in_host
        self._device = device
        self._moves: dict[Sequence, _Move] = {}  # at most one of a sequence; bounded by the pools' blocks
        self._deferred: dict[Sequence, None] = {}  # running, and waiting for blocks that become free by themselves
        self._on_moved: Callable[[], None] = lambda: None

    def open(self, on_moved: Callable[[], None]) -> None:
        """on_moved: called from whatever thread when a copy has ended, so that somebody calls `settle`."""
        self._on_moved = on_moved

    def close(self) -> None:
        """Copies under way end by themselves; nobody hears of them."""
        self._on_moved = lambda: None

    def register(self, block_bytes: int) -> ShapeClass:
        """The class of blocks of this size in both pools. Raises ConfigError if none fits."""
        self._in_host.pool.register(block_bytes)
        return self._on_device.pool.register(block_bytes)

    def capacity_blocks(self, shape: ShapeClass) -> int:
        return self._on_device.pool.capacity_blocks(shape)

    @property
    def device_used_bytes(self) -> int:
        return self._on_device.pool.used_bytes

    @property
    def device_total_bytes(self) -> int:
        return self._on_device.pool.total_bytes

    @property
    def host_used_bytes(self) -> int:
        return self._in_host.pool.used_bytes

    def num_free_blocks(self, shape: ShapeClass) -> int:
        """On the device, for newcomers: none while a running sequence waits for room."""
        return 0 if self._deferred else self._on_device.pool.num_free_blocks(shape)

    # --- growth ---------------------------------------------------------------------------------

    def extend(self, shape: ShapeClass, sequence: Sequence, num_tokens: int) -> bool:
        """Blocks for its computed tokens and `num_tokens` more; False, and nothing changed, where they don't fit."""
        num_missing = self._num_blocks(sequence.num_computed_tokens + num_tokens) - len(sequence.block_ids)
        if num_missing > 0:
            if self._is_behind_deferred(sequence):
                return False
            block_ids = self._on_device.pool.allocate(shape, num_missing)
            if isinstance(block_ids, OutOfBlocks):
                return False
            sequence.block_ids += block_ids
        self._settle_claim(sequence)
        return True

    def is_room_coming(self, sequence: Sequence) -> bool:
        """Whether it may get more room without anybody giving way: by a copy's end, or after one earlier in line."""
        return self._is_behind_deferred(sequence) or any(move.kept is not Side.DEVICE for move in self._moves.values())

    def defer(self, sequence: Sequence) -> None:
        """It waits for room that is coming. Until it has got it, nobody who is later in line gets any."""
        self._deferred[sequence] = None
        sequence.is_ready = False

    def _is_behind_deferred(self, sequence: Sequence) -> bool:
        return any(order_key(other) < order_key(sequence) for other in self._deferred)

    def _settle_claim(self, sequence: Sequence) -> None:
        """It waits for room no longer: those behind it may try again."""
        if sequence in self._deferred:
            del self._deferred[sequence]
            sequence.is_ready = True
            self._let_deferred_try()

    def _let_deferred_try(self) -> None:
        for sequence in self._deferred:
            sequence.is_ready = True

    # --- moves ----------------------------------------------------------------------------------

    def swap_out(self, shape: ShapeClass, sequence: Sequence) -> bool:
        """Its KV goes to host memory; False, and nothing changed, where that is full or there is nothing to keep."""
        if (move := self._moves.get(sequence)) is not None:  # still coming in: what host memory has is all of it
            move.kept = Side.HOST
            return True
        num_blocks = self._num_blocks(sequence.num_computed_tokens)
        host_blocks = self._in_host.pool.allocate(shape, num_blocks) if num_blocks else []
        if isinstance(host_blocks, OutOfBlocks) or not host_blocks:
            return False
        self._settle_claim(sequence)
        self._on_device.pool.free(shape, sequence.block_ids[num_blocks:])
        self._start(sequence, shape, sequence.block_ids[:num_blocks], host_blocks, Side.HOST)
        return True

    def swap_in(self, shape: ShapeClass, sequence: Sequence, num_tokens: int) -> bool:
        """Room for its computed tokens and `num_tokens` more, and a copy of the former; False where they don't fit."""
        num_blocks = self._num_blocks(sequence.num_computed_tokens + num_tokens)
        if self._deferred:
            return False
        device_blocks = self._on_device.pool.allocate(shape, num_blocks)
        if isinstance(device_blocks, OutOfBlocks):
            return False
        self._start(sequence, shape, device_blocks, sequence.host_block_ids, Side.DEVICE)
        return True

    def release(self, shape: ShapeClass, sequence: Sequence) -> None:
        """Gives back all that it has; what is under copy, when that has ended."""
        self._settle_claim(sequence)
        if (move := self._moves.get(sequence)) is not None:
            move.kept = None
        else:
            self._on_device.pool.free(shape, sequence.block_ids)
            self._in_host.pool.free(shape, sequence.host_block_ids)
        _forget(sequence)

    def settle(self) -> None:
        """Takes note of the copies that have ended: their blocks are free, their sequences ready."""
        ended = [sequence for sequence, move in self._moves.items() if move.event.done()]
        for sequence in ended:
            self._end(sequence, self._moves.pop(sequence))
        if ended:
            self._let_deferred_try()

    def _start(
        self, sequence: Sequence, shape: ShapeClass, device_blocks: list[int], host_blocks: list[int], to: Side
    ) -> None:
        """Copies as many blocks as there are host blocks; device blocks beyond them are fresh."""
        source, destination = self._on_device, self._in_host
        blocks = list(zip(host_blocks, device_blocks, strict=False))
        if to is Side.DEVICE:
            source, destination = destination, source
            blocks = [(device_block, host_block) for host_block, device_block in blocks]
        quantum_bytes = self._on_device.pool.quantum_bytes
        offsets = [(into * quantum_bytes, out_of * quantum_bytes) for into, out_of in blocks]
        event = self._device.copy_blocks(
            destination.region, source.region, offsets, shape.block_bytes, lambda: self._on_moved()
        )
        self._moves[sequence] = _Move(shape, device_blocks, host_blocks, event, to)
        sequence.block_ids, sequence.host_block_ids = [], []
        sequence.is_ready = False

    def _end(self, sequence: Sequence, move: _Move) -> None:
        if move.kept is not None:
            sequence.is_ready = True
        try:
            move.event.wait()
        except Exception:
            log.exception("a copy of KV failed")
            if move.kept is not None:  # it is computed again
                _forget(sequence)
                move.kept = None
        if move.kept is Side.DEVICE:
            sequence.block_ids = move.device_blocks
        else:
            self._on_device.pool.free(move.shape, move.device_blocks)
        if move.kept is Side.HOST:
            sequence.host_block_ids = move.host_blocks
        else:
            self._in_host.pool.free(move.shape, move.host_blocks)

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self._device.block_tokens)


def _forget(sequence: Sequence) -> None:
    sequence.block_ids, sequence.host_block_ids = [], []
    sequence.num_computed_tokens = 0
    sequence.is_ready = True
