"""Where sequences' KV lies: in blocks on the device, in host blocks, or on its way between them.

    nothing --enter, extend--> device --swap_out--> host --enter--> device

Copies run beside the steps (swaps.py), and nobody waits for them. Full blocks are shared by content (content.py) and
kept after their sequences, in both memories.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gpu_worker.device.base import Device
from gpu_worker.kv.claims import Claims
from gpu_worker.kv.classes import Classes
from gpu_worker.kv.compaction import Compaction
from gpu_worker.kv.content import Content
from gpu_worker.kv.counts import SIDES, KvCounts
from gpu_worker.kv.demotion import Demotion
from gpu_worker.kv.device_slabs import DeviceSlabs
from gpu_worker.kv.holders import Holders
from gpu_worker.kv.memory import Copies, KvRegion
from gpu_worker.kv.swaps import Swaps, forget_kv
from gpu_worker.memory.prefix_index import SharedBlocks
from gpu_worker.memory.slab_pool import OutOfBlocks, ShapeClass
from gpu_worker.sequence import Sequence


class _Known(NamedTuple):
    """Blocks with KV of a sequence that comes. They are in use until it has them, or gives them back."""

    on_device: list[int]  # its first ones, shared
    in_host: list[int]
    host_first: int  # index in the sequence of the first of them
    is_swapped: bool  # the host's are its own, which it keeps in any case; else they are shared, too

    @property
    def num_blocks(self) -> int:
        return max(len(self.on_device), self.host_first + len(self.in_host))

    @property
    def num_full_blocks(self) -> int:
        """The last block of its own may have room."""
        return len(self.on_device) if self.is_swapped else self.num_blocks


class KvStore:
    """Used from the loop's thread only."""

    def __init__(self, on_device: KvRegion, in_host: KvRegion, device: Device) -> None:
        self.block_tokens = device.block_tokens
        self.counts = KvCounts()
        self._on_device = on_device
        self._in_host = in_host
        self._copies = Copies(device, in_host, self.counts)
        self._demotion = Demotion(on_device, in_host, self._copies)
        self._claims = Claims()
        self._holders = Holders()
        self._content = Content(on_device.blocks, self._holders, device.block_tokens)
        self._swaps = Swaps(on_device, in_host, self._copies, self._content, self._holders)
        self.compaction = Compaction(on_device, device, self._holders)
        self._classes = Classes(on_device.blocks, in_host.blocks, self.compaction)
        self.device_slabs = DeviceSlabs(on_device.blocks, self._holders, self.compaction)
        # Asked for slabs for so many more blocks of a class; whether they have come.
        self.on_short: Callable[[ShapeClass, int], bool] = lambda shape, num_blocks: False

    def open(self, on_moved: Callable[[], None]) -> None:
        """on_moved: called from whatever thread when a copy has ended, so that somebody calls `settle`."""
        self._copies.on_done = on_moved

    def close(self) -> None:
        """Copies under way end by themselves; nobody hears of them."""
        self._copies.on_done = lambda: None

    def register(self, block_bytes: int) -> ShapeClass:
        """For one more model: the class of its blocks in both memories. Raises ConfigError if none fits."""
        return self._classes.register(block_bytes)

    def unregister(self, shape: ShapeClass) -> None:
        """A model without sequences is gone. With the last one of a class, what is kept of the class goes, too."""
        self._classes.unregister(shape)

    def settle(self) -> None:
        """Takes note of the copies that have ended."""
        has_ended = self._swaps.settle()
        if self._demotion.advance() or has_ended:
            self._claims.let_try()
        self._classes.drop_unused()

    # --- how much there is ----------------------------------------------------------------------

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

    def make_room(self, shape: ShapeClass, num_tokens: int) -> None:
        """For the first in a line, who needs blocks for so many tokens: where they are short, KV may get more slabs."""
        num_missing = self._num_blocks(num_tokens) - self._on_device.blocks.num_free_blocks(shape)
        if num_missing > 0:
            self.on_short(shape, num_missing)

    def extend(self, shape: ShapeClass, sequence: Sequence, num_tokens: int) -> bool:
        """Blocks for its computed tokens and `num_tokens` more; False, and nothing changed, where they don't fit."""
        self._content.publish(sequence)
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
        is_leaving = self._swaps.will_free_device_blocks() or self._demotion.pinned_bytes > 0
        return is_leaving or self._claims.is_before(sequence)

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
        known = self._look_up(sequence)
        num_known = max(known.num_full_blocks * self.block_tokens, sequence.num_computed_tokens)
        num_blocks = self._num_blocks(min(num_known + num_tokens, sequence.num_tokens))
        fresh = self._on_device.blocks.allocate(shape, num_blocks - len(known.on_device))
        if isinstance(fresh, OutOfBlocks):
            self._let_go(known)
            return False
        self._count(sequence, known, num_known)
        sequence.num_computed_tokens = num_known
        sequence.num_published_blocks = num_there = len(known.on_device)
        block_ids = [*known.on_device, *fresh]
        if known.num_blocks > num_there:
            self._swaps.bring_in(
                shape, sequence, block_ids, known.in_host, host_first=known.host_first, num_there=num_there
            )
        else:
            self._in_host.blocks.free(known.in_host)
            sequence.block_ids, sequence.host_block_ids = block_ids, []
            self._holders.add(sequence, block_ids)
        return True

    def swap_out(self, shape: ShapeClass, sequence: Sequence) -> bool:
        """Its KV goes to host memory; False, and nothing changed, where that is full or there is nothing to keep."""
        if self._swaps.has(sequence):
            return self._swaps.turn_back(sequence)
        num_blocks = self._num_blocks(sequence.num_computed_tokens)
        if not num_blocks:
            return False
        self._content.publish(sequence)
        device, host = self._on_device.blocks, self._in_host.blocks
        found = host.match(self._content.keys(sequence, sequence.num_computed_tokens))
        fresh = host.allocate(shape, num_blocks - len(found))
        if isinstance(fresh, OutOfBlocks):
            host.free(found)
            return False
        self._claims.settle(sequence)
        self.counts.swaps["host"] += 1
        host_blocks, block_ids = [*found, *fresh], sequence.block_ids
        self._holders.remove(sequence, block_ids)
        if fresh:
            self._swaps.send_out(shape, sequence, block_ids[:num_blocks], host_blocks, num_there=len(found))
            device.free(block_ids[num_blocks:])
        else:
            device.free(block_ids)
            sequence.block_ids, sequence.host_block_ids = [], host_blocks
        return True

    def release(self, sequence: Sequence) -> None:
        """Gives back all that it has; what is under copy, when that has ended."""
        self._claims.settle(sequence)
        if not self._swaps.abandon(sequence):
            self._content.publish(sequence)
            self._holders.remove(sequence, sequence.block_ids)
            self._on_device.blocks.free(sequence.block_ids)
            self._in_host.blocks.free(sequence.host_block_ids)
        forget_kv(sequence)

    def _look_up(self, sequence: Sequence) -> _Known:
        keys = self._content.keys(sequence, sequence.max_reused_tokens)
        on_device = self._on_device.blocks.match(keys)
        if sequence.host_block_ids:
            return _Known(on_device, sequence.host_block_ids, 0, is_swapped=True)
        num_there = len(on_device)
        return _Known(on_device, self._in_host.blocks.match(keys[num_there:]), num_there, is_swapped=False)

    def _let_go(self, known: _Known) -> None:
        self._on_device.blocks.free(known.on_device)
        if not known.is_swapped:
            self._in_host.blocks.free(known.in_host)

    def _count(self, sequence: Sequence, known: _Known, num_known: int) -> None:
        """It enters, for the first time or again."""
        self.counts.swaps["device"] += known.is_swapped
        if not sequence.num_preemptions:
            sequence.num_cached_tokens = min(num_known, sequence.num_prompt_tokens)
            self.counts.num_queried_tokens += sequence.num_prompt_tokens
            self.counts.num_cached_tokens += sequence.num_cached_tokens

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_tokens)
