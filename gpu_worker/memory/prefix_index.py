"""Blocks of one memory, shared by content: full blocks are kept after their sequences, until memory is needed.

    free -> used by n sequences -> kept by its key -> free
                      ^----------------'

A key names a block's tokens and all before them (a hash chain), so equal keys mean equal KV. A sequence uses its whole
chain, and lets go of it from the end: so a kept block is always older than the one before it in its chain, and the
oldest, which goes first, is a leaf.
"""

from array import array
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NewType

from gpu_worker.memory.compaction import choose_slab
from gpu_worker.memory.slab_pool import OutOfBlocks, PoolStats, ShapeClass, SlabPool, SparseSlab

BlockKey = NewType("BlockKey", bytes)
_KEY_BYTES: Final = 16


def root_key(content_id: str, salt: str) -> BlockKey:
    """Where chains of a model with this content begin; those of another salt are never shared."""
    return BlockKey(blake2b(f"{len(content_id)}:{content_id}{salt}".encode(), digest_size=_KEY_BYTES).digest())


def extend_chain(keys: list[BlockKey], root: BlockKey, token_ids: Sequence[int], block_tokens: int) -> None:
    """Adds the keys of the full blocks of `token_ids` that `keys` lacks; tokens are below 2^64."""
    for start in range(len(keys) * block_tokens, len(token_ids) - block_tokens + 1, block_tokens):
        key = blake2b(keys[-1] if keys else root, digest_size=_KEY_BYTES)
        key.update(array("Q", token_ids[start : start + block_tokens]).tobytes())
        keys.append(BlockKey(key.digest()))


@dataclass(slots=True)
class _Block:
    shape: ShapeClass
    num_users: int
    key: BlockKey | None = None


@dataclass(slots=True)
class _InUse:
    """Of one class."""

    num_blocks: int = 0
    num_slabs: int = 0  # with at least one such block


class SharedBlocks:
    """Free + kept + used = total. What is kept counts as free: it goes, the oldest first, when somebody needs room."""

    def __init__(self, pool: SlabPool, *, keep: bool) -> None:
        """keep: False, and no block is ever found by its content."""
        self._pool = pool
        self._keep = keep
        self._blocks: dict[int, _Block] = {}  # by id: used and kept ones
        self._by_key: dict[BlockKey, int] = {}
        self._kept: OrderedDict[BlockKey, None] = OrderedDict()  # oldest first
        self._in_use: dict[ShapeClass, _InUse] = {}
        self._used_in_slab: dict[int, int] = {}  # slab -> its used blocks, if any
        self.used_bytes = 0  # by sequences

    @property
    def total_bytes(self) -> int:
        return self._pool.total_bytes

    @property
    def quantum_bytes(self) -> int:
        return self._pool.quantum_bytes

    @property
    def kept_bytes(self) -> int:
        return self._pool.used_bytes - self.used_bytes

    @property
    def shapes(self) -> Collection[ShapeClass]:
        return self._in_use.keys()

    def stats(self) -> PoolStats:
        return self._pool.stats()

    def slabs_by_class(self) -> list[tuple[ShapeClass, int]]:
        return self._pool.slabs_by_class()

    def register(self, block_bytes: int) -> ShapeClass:
        shape = self._pool.register(block_bytes)
        self._in_use.setdefault(shape, _InUse())
        return shape

    def unregister(self, shape: ShapeClass) -> bool:
        """Nobody enters with this class any more: what is kept of it goes. False while a block of it is used."""
        if self._in_use[shape].num_blocks:
            return False
        for block_id in [block_id for block_id, block in self._blocks.items() if block.shape == shape]:
            self._forget(block_id)
        if not self._pool.unregister(shape):  # reserved blocks are no blocks of ours
            return False
        del self._in_use[shape]
        return True

    def num_free_blocks(self, shape: ShapeClass) -> int:
        """As if all that is kept were gone."""
        in_use = self._in_use[shape]
        num_slabs = self._pool.num_slabs - len(self._used_in_slab) + in_use.num_slabs
        return num_slabs * shape.blocks_per_slab - in_use.num_blocks

    def num_empty_blocks(self, shape: ShapeClass) -> int:
        """For which nothing that is kept has to go."""
        return self._pool.num_free_blocks(shape)

    def allocate(self, shape: ShapeClass, num_blocks: int) -> list[int] | OutOfBlocks:
        """Private blocks, each with one user; kept ones go for them if need be."""
        num_free = self.num_free_blocks(shape)
        if num_blocks > num_free:
            return OutOfBlocks(needed=num_blocks, free=num_free)
        while self._pool.num_free_blocks(shape) < num_blocks:
            self._forget(self._by_key[next(iter(self._kept))])
        block_ids = self._pool.allocate(shape, num_blocks)
        assert not isinstance(block_ids, OutOfBlocks), "room was made"
        for block_id in block_ids:
            self._blocks[block_id] = _Block(shape, num_users=0)
            self._use(block_id)
        return block_ids

    def free(self, block_ids: Iterable[int]) -> None:
        """One user less of each; raises ValueError where there is none. In the order of their chain."""
        for block_id in reversed(list(block_ids)):
            block = self._blocks.get(block_id)
            if block is None or not block.num_users:
                raise ValueError(f"block {block_id} is not in use")
            block.num_users -= 1
            if block.num_users:
                continue
            self._unpin(block_id, block.shape)
            if block.key is None:
                self._forget(block_id)
            else:
                self._kept[block.key] = None

    def publish(self, block_id: int, key: BlockKey) -> int:
        """A used block is full: others may use it. Returns the one to use: of two with equal content, one stays."""
        block = self._blocks[block_id]
        if not self._keep or block.key is not None:
            return block_id
        known = self._by_key.setdefault(key, block_id)
        if known == block_id:
            block.key = key
        else:
            self._use(known)
            self.free([block_id])
        return known

    def match(self, keys: Iterable[BlockKey]) -> list[int]:
        """Takes the blocks of the longest known beginning of a chain into use."""
        block_ids: list[int] = []
        for key in keys:
            block_id = self._by_key.get(key)
            if block_id is None:
                break
            self._use(block_id)
            block_ids.append(block_id)
        return block_ids

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def oldest_kept(self, num_blocks: int) -> list[tuple[int, BlockKey, ShapeClass]]:
        """The kept blocks that would go next, all of one class: (block, key, class)."""
        oldest: list[tuple[int, BlockKey, ShapeClass]] = []
        for key in self._kept:
            block_id = self._by_key[key]
            shape = self._blocks[block_id].shape
            if len(oldest) == num_blocks or (oldest and oldest[0][2] != shape):
                break
            oldest.append((block_id, key, shape))
        return oldest

    def drop(self, block_id: int) -> None:
        """One user less, and where it was the last the block is not kept."""
        self.free([block_id])
        if block_id in self._blocks and not self._blocks[block_id].num_users:
            self._forget(block_id)

    def use(self, block_id: int) -> None:
        """One user more, of a block that is used or kept."""
        self._use(block_id)

    def num_users(self, block_id: int) -> int:
        return self._blocks[block_id].num_users

    # --- moves ----------------------------------------------------------------------------------

    def slab_to_empty(self) -> SparseSlab | None:
        return choose_slab(self._pool.stats(), self._pool.sparse_slabs())

    def blocks_in(self, slab: int) -> list[int]:
        """Used and kept ones."""
        return self._pool.blocks_in(slab)

    def reserve_beside(self, slab: SparseSlab, num_blocks: int) -> list[int]:
        """Places for blocks of this slab in others of its class; `move` or `cancel_reserved` follows."""
        return self._pool.allocate_beside(slab, num_blocks)

    def cancel_reserved(self, shape: ShapeClass, block_ids: Iterable[int]) -> None:
        self._pool.free(shape, block_ids)

    def move(self, block_id: int, new_id: int) -> None:
        """What lay in a used or kept block lies in a reserved one now: its key, its users and its age stay."""
        block = self._blocks[new_id] = self._blocks.pop(block_id)
        if block.key is not None:
            self._by_key[block.key] = new_id
        if block.num_users:
            self._pin(new_id, block.shape)
            self._unpin(block_id, block.shape)
        self._pool.free(block.shape, [block_id])

    # --- the split ------------------------------------------------------------------------------

    @property
    def num_slabs(self) -> int:
        return self._pool.num_slabs

    @property
    def slab_bytes(self) -> int:
        return self._pool.slab_bytes

    @property
    def first_slab(self) -> int:
        return self._pool.first_slab

    def boundary_blocks(self, num_slabs: int) -> list[int]:
        """In the first slabs: used ones, kept ones, and those that are reserved."""
        first = self._pool.first_slab
        return [block_id for slab in range(first, first + num_slabs) for block_id in self._pool.blocks_in(slab)]

    def lend(self, num_slabs: int) -> bool:
        """Gives the first slabs away, where nobody uses a block of theirs. What is kept there goes."""
        leaving = self.boundary_blocks(num_slabs)
        if not all(block_id in self._blocks and not self._blocks[block_id].num_users for block_id in leaving):
            return False
        for block_id in leaving:
            self._forget(block_id)
        self._pool.lend(num_slabs)
        return True

    def take_back(self, num_slabs: int) -> None:
        self._pool.take_back(num_slabs)

    def _use(self, block_id: int) -> None:
        block = self._blocks[block_id]
        block.num_users += 1
        if block.num_users > 1:
            return
        if block.key is not None:
            self._kept.pop(block.key, None)
        self._pin(block_id, block.shape)

    def _pin(self, block_id: int, shape: ShapeClass) -> None:
        slab = self._pool.slab_of(block_id)
        in_use = self._in_use[shape]
        in_use.num_slabs += slab not in self._used_in_slab
        in_use.num_blocks += 1
        self._used_in_slab[slab] = self._used_in_slab.get(slab, 0) + 1
        self.used_bytes += shape.block_bytes

    def _unpin(self, block_id: int, shape: ShapeClass) -> None:
        slab = self._pool.slab_of(block_id)
        in_use = self._in_use[shape]
        self._used_in_slab[slab] -= 1
        if not self._used_in_slab[slab]:
            del self._used_in_slab[slab]
            in_use.num_slabs -= 1
        in_use.num_blocks -= 1
        self.used_bytes -= shape.block_bytes

    def _forget(self, block_id: int) -> None:
        block = self._blocks.pop(block_id)
        if block.key is not None:
            self._kept.pop(block.key)
            del self._by_key[block.key]
        self._pool.free(block.shape, [block_id])
