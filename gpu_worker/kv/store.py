"""Where sequences' KV lies: in blocks on the device, in host blocks, or on its way between them.

    nothing --enter, extend--> device --swap_out--> host --enter--> device

Copies run beside the steps. A block under copy, at either end, stays in use until the copy has ended, whatever becomes
of its sequence meanwhile; a sequence under way is not ready, and nobody else waits for it. Full blocks are shared by
content and kept after their sequences, in both memories.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from gpu_worker.device.base import Device, Event
from gpu_worker.kv.claims import Claims
from gpu_worker.kv.compaction import Compaction
from gpu_worker.kv.counts import SIDES, KvCounts
from gpu_worker.kv.demotion import Demotion
from gpu_worker.kv.holders import Holders
from gpu_worker.kv.memory import Copies, KvRegion
from gpu_worker.memory.prefix_index import BlockKey, SharedBlocks, extend_chain
from gpu_worker.memory.slab_pool import OutOfBlocks, ShapeClass
from gpu_worker.sequence import Sequence

log = logging.getLogger(__name__)


class Side(Enum):
    DEVICE = "device"
    HOST = "host"


@dataclass(slots=True)
class _Move:
    """A sequence's KV under copy, whose blocks belong to the move until it has ended."""

    sequence: Sequence | None  # None: it has ended, or wants none of it any more
    device_blocks: list[int]
    host_blocks: list[int]
    host_first: int  # index in the sequence of the first host block
    event: Event
    kept: Side  # whose blocks the sequence has at the end


class KvStore:
    """Used from the loop's thread only. Both memories have equal slabs and quanta, so a class is the same in both."""

    def __init__(self, on_device: KvRegion, in_host: KvRegion, device: Device) -> None:
        self._on_device = on_device
        self._in_host = in_host
        self._block_tokens = device.block_tokens
        self.counts = KvCounts()
        self._copies = Copies(device, in_host, self.counts)
        self._demotion = Demotion(on_device, in_host, self._copies)
        self._claims = Claims()
        self._holders = Holders()
        self.compaction = Compaction(on_device, device, self._holders)
        # Asked for slabs for so many more blocks of a class; whether they have come.
        self.on_short: Callable[[ShapeClass, int], bool] = lambda shape, num_blocks: False
        self._moves: list[_Move] = []  # at most one of a sequence; bounded by the blocks that there are
        self._num_models: Counter[ShapeClass] = Counter()  # of a class; 0: it goes when nothing of it is under copy

    def open(self, on_moved: Callable[[], None]) -> None:
        """on_moved: called from whatever thread when a copy has ended, so that somebody calls `settle`."""
        self._copies.on_done = on_moved

    def close(self) -> None:
        """Copies under way end by themselves; nobody hears of them."""
        self._copies.on_done = lambda: None

    def register(self, block_bytes: int) -> ShapeClass:
        """For one more model: the class of its blocks in both memories. Raises ConfigError if none fits."""
        self._in_host.blocks.register(block_bytes)
        shape = self._on_device.blocks.register(block_bytes)
        self._num_models[shape] += 1
        return shape

    def unregister(self, shape: ShapeClass) -> None:
        """A model without sequences is gone. With the last one of a class, what is kept of the class goes, too."""
        self._num_models[shape] -= 1
        self._drop_classes()

    # --- the split ------------------------------------------------------------------------------

    @property
    def num_device_slabs(self) -> int:
        return self._on_device.blocks.num_slabs

    @property
    def slab_bytes(self) -> int:
        return self._on_device.blocks.slab_bytes

    @property
    def first_slab(self) -> int:
        """Those before it are lent."""
        return self._on_device.blocks.first_slab

    def lend(self, num_slabs: int) -> bool:
        """Gives the first slabs of the device away, if nobody uses a block of theirs."""
        return not self.compaction.is_moving and self._on_device.blocks.lend(num_slabs)

    def take_back(self, num_slabs: int) -> None:
        self._on_device.blocks.take_back(num_slabs)

    def boundary_holders(self, num_slabs: int) -> set[Sequence]:
        """Sequences at rest with blocks in the first slabs of the device."""
        block_ids = self._on_device.blocks.boundary_blocks(num_slabs)
        return {sequence for block_id in block_ids for sequence in self._holders.of(block_id)}

    def make_room(self, shape: ShapeClass, num_tokens: int) -> None:
        """For the first in a line, who needs blocks for so many tokens: where they are short, KV may get more slabs."""
        num_missing = self._num_blocks(num_tokens) - self._on_device.blocks.num_free_blocks(shape)
        if num_missing > 0:
            self.on_short(shape, num_missing)

    def capacity_blocks(self, shape: ShapeClass) -> int:
        return self._on_device.blocks.capacity_blocks(shape)

    @property
    def device_used_bytes(self) -> int:
        """By sequences, those under way included."""
        return self._on_device.blocks.used_bytes - self._demotion.pinned_bytes

    @property
    def device_total_bytes(self) -> int:
        return self._on_device.blocks.total_bytes

    def sides(self) -> Iterable[tuple[str, SharedBlocks]]:
        return zip(SIDES, (self._on_device.blocks, self._in_host.blocks), strict=True)

    def num_free_blocks(self, shape: ShapeClass) -> int:
        """On the device, for newcomers: none while a running sequence waits for room."""
        return 0 if self._claims else self._on_device.blocks.num_free_blocks(shape)

    # --- scratch --------------------------------------------------------------------------------

    @property
    def block_tokens(self) -> int:
        return self._block_tokens

    def borrow(self, shape: ShapeClass, num_blocks: int) -> list[int] | None:
        """Blocks of the device for no sequence, until `give_back`; None where not so many are empty."""
        blocks = self._on_device.blocks
        if num_blocks > blocks.num_empty_blocks(shape):
            return None
        block_ids = blocks.allocate(shape, num_blocks)
        assert not isinstance(block_ids, OutOfBlocks), "empty ones are free"
        return block_ids

    def give_back(self, block_ids: list[int]) -> None:
        self._on_device.blocks.free(block_ids)

    # --- room -----------------------------------------------------------------------------------

    def extend(self, shape: ShapeClass, sequence: Sequence, num_tokens: int) -> bool:
        """Blocks for its computed tokens and `num_tokens` more; False, and nothing changed, where they don't fit."""
        self._publish(sequence)
        num_missing = self._num_blocks(sequence.num_computed_tokens + num_tokens) - len(sequence.block_ids)
        if num_missing > 0:
            if self._claims.is_before(sequence):
                return False
            block_ids = self._on_device.blocks.allocate(shape, num_missing)
            if isinstance(block_ids, OutOfBlocks) and self.on_short(shape, block_ids.needed - block_ids.free):
                block_ids = self._on_device.blocks.allocate(shape, num_missing)
            if isinstance(block_ids, OutOfBlocks):
                return False
            sequence.block_ids += block_ids
            self._holders.add(sequence, block_ids)
        self._claims.settle(sequence)
        return True

    def is_room_coming(self, sequence: Sequence) -> bool:
        """Whether it may get more room without anybody giving way: by a copy's end, or after one earlier in line."""
        is_leaving = any(move.sequence is None or move.kept is Side.HOST for move in self._moves)
        return is_leaving or self._demotion.pinned_bytes > 0 or self._claims.is_before(sequence)

    def defer(self, sequence: Sequence) -> None:
        """It waits for room that is coming."""
        self._claims.add(sequence)

    # --- in and out -----------------------------------------------------------------------------

    def enter(self, shape: ShapeClass, sequence: Sequence, num_tokens: int) -> bool:
        """Takes in a waiting sequence, with blocks for the KV that is known and at most `num_tokens` more.

        What the device has of its tokens, from whatever sequence, is shared; what host memory has is copied in. False,
        and nothing changed, where it does not fit.
        """
        if self._claims:
            return False
        device, host = self._on_device.blocks, self._in_host.blocks
        keys = self._keys(sequence, sequence.num_tokens - 1)  # the last token is always computed
        found = device.match(keys)
        is_swapped = bool(sequence.host_block_ids)
        host_first = 0 if is_swapped else len(found)
        host_blocks = sequence.host_block_ids if is_swapped else host.match(keys[len(found) :])
        num_known = max(len(found), 0 if is_swapped else host_first + len(host_blocks)) * self._block_tokens
        num_known = max(num_known, sequence.num_computed_tokens)
        num_blocks = self._num_blocks(min(num_known + num_tokens, sequence.num_tokens))
        fresh = device.allocate(shape, num_blocks - len(found))
        if isinstance(fresh, OutOfBlocks):
            device.free(found)
            if not is_swapped:
                host.free(host_blocks)
            return False
        if not sequence.num_preemptions:
            sequence.num_cached_tokens = min(num_known, sequence.num_prompt_tokens)
            self.counts.num_queried_tokens += sequence.num_prompt_tokens
            self.counts.num_cached_tokens += sequence.num_cached_tokens
        self.counts.swaps["device"] += is_swapped
        sequence.num_computed_tokens = num_known
        sequence.num_published_blocks = len(found)
        block_ids = [*found, *fresh]
        coming = range(len(found), host_first + len(host_blocks))
        if coming:
            pairs = [(block_ids[index], host_blocks[index - host_first]) for index in coming]
            event = self._copies.start(self._on_device, self._in_host, shape, pairs)
            self._start(sequence, _Move(sequence, block_ids, host_blocks, host_first, event, Side.DEVICE))
        else:
            host.free(host_blocks)
            sequence.block_ids, sequence.host_block_ids = block_ids, []
            self._holders.add(sequence, block_ids)
        return True

    def swap_out(self, shape: ShapeClass, sequence: Sequence) -> bool:
        """Its KV goes to host memory; False, and nothing changed, where that is full or there is nothing to keep."""
        if (move := self._move_of(sequence)) is not None:
            if move.host_first == 0:  # still coming in, and host memory has all of it
                move.kept = Side.HOST
            return move.host_first == 0
        num_blocks = self._num_blocks(sequence.num_computed_tokens)
        if not num_blocks:
            return False
        self._publish(sequence)
        device, host = self._on_device.blocks, self._in_host.blocks
        found = host.match(self._keys(sequence, sequence.num_computed_tokens))
        fresh = host.allocate(shape, num_blocks - len(found))
        if isinstance(fresh, OutOfBlocks):
            host.free(found)
            return False
        self._claims.settle(sequence)
        self.counts.swaps["host"] += 1
        host_blocks, block_ids = [*found, *fresh], sequence.block_ids
        self._holders.remove(sequence, block_ids)
        if fresh:
            pairs = list(zip(fresh, block_ids[len(found) : num_blocks], strict=True))
            event = self._copies.start(self._in_host, self._on_device, shape, pairs)
            self._start(sequence, _Move(sequence, block_ids[:num_blocks], host_blocks, 0, event, Side.HOST))
            device.free(block_ids[num_blocks:])
        else:
            device.free(block_ids)
            sequence.block_ids, sequence.host_block_ids = [], host_blocks
        return True

    def release(self, sequence: Sequence) -> None:
        """Gives back all that it has; what is under copy, when that has ended."""
        self._claims.settle(sequence)
        if (move := self._move_of(sequence)) is not None:
            move.sequence = None
        else:
            self._publish(sequence)
            self._holders.remove(sequence, sequence.block_ids)
            self._on_device.blocks.free(sequence.block_ids)
            self._in_host.blocks.free(sequence.host_block_ids)
        _forget(sequence)

    # --- copies ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """Takes note of the copies that have ended: their blocks are free, their sequences ready."""
        ended = [move for move in self._moves if move.event.done()]
        for move in ended:
            self._moves.remove(move)
            self._end(move)
        if self._demotion.advance() or ended:
            self._claims.let_try()
        if 0 in self._num_models.values():
            self._drop_classes()

    def _drop_classes(self) -> None:
        if self.compaction.is_moving:
            return
        for shape in [shape for shape, num_models in self._num_models.items() if not num_models]:
            memories = (self._on_device.blocks, self._in_host.blocks)
            if all([blocks.unregister(shape) for blocks in memories if shape in blocks.shapes]):
                del self._num_models[shape]

    def _move_of(self, sequence: Sequence) -> _Move | None:
        return next((move for move in self._moves if move.sequence is sequence), None)

    def _start(self, sequence: Sequence, move: _Move) -> None:
        self._moves.append(move)
        sequence.block_ids, sequence.host_block_ids = [], []
        sequence.is_ready = False

    def _end(self, move: _Move) -> None:
        device, host, sequence = self._on_device.blocks, self._in_host.blocks, move.sequence
        try:
            move.event.wait()
        except Exception:
            log.exception("a copy of KV failed")
            if sequence is not None:  # it is computed again
                _forget(sequence)
                sequence = None
        if sequence is not None:
            sequence.is_ready = True
        if sequence is not None and move.kept is Side.DEVICE:
            sequence.block_ids = move.device_blocks
            self._holders.add(sequence, move.device_blocks)
        else:
            device.free(move.device_blocks)
        if sequence is not None and move.kept is Side.HOST:
            keys = self._keys(sequence, sequence.num_computed_tokens)
            full = [host.publish(block_id, key) for block_id, key in zip(move.host_blocks, keys, strict=False)]
            sequence.host_block_ids = [*full, *move.host_blocks[len(full) :]]
        else:
            host.free(move.host_blocks)

    # --- content --------------------------------------------------------------------------------

    def _publish(self, sequence: Sequence) -> None:
        """Its full blocks may be shared from now on. Those with equal content give way to the known ones."""
        num_full = sequence.num_computed_tokens // self._block_tokens if sequence.block_ids else 0
        if num_full <= sequence.num_published_blocks:
            return
        keys = self._keys(sequence, sequence.num_computed_tokens)
        for index in range(sequence.num_published_blocks, num_full):
            block_id = sequence.block_ids[index]
            known = self._on_device.blocks.publish(block_id, keys[index])
            if known != block_id:
                sequence.block_ids[index] = known
                self._holders.remove(sequence, [block_id])
                self._holders.add(sequence, [known])
        sequence.num_published_blocks = num_full

    def _keys(self, sequence: Sequence, num_tokens: int) -> list[BlockKey]:
        """Of the full blocks of its first `num_tokens`."""
        extend_chain(sequence.block_keys, sequence.root_key, sequence.token_ids, self._block_tokens)
        return sequence.block_keys[: num_tokens // self._block_tokens]

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_tokens)


def _forget(sequence: Sequence) -> None:
    sequence.block_ids, sequence.host_block_ids = [], []
    sequence.num_computed_tokens = sequence.num_published_blocks = 0
    sequence.is_ready = True
