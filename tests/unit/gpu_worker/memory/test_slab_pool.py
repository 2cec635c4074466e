import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from gpu_worker.memory.slab_pool import OutOfBlocks, ShapeClass, SlabPool, SparseSlab
from shared.errors import ConfigError

QUANTUM, SLAB = 64, 1024


def pool(num_slabs: int = 4) -> SlabPool:
    return SlabPool(num_slabs * SLAB, SLAB, QUANTUM)


def allocated(result: list[int] | OutOfBlocks) -> list[int]:
    assert not isinstance(result, OutOfBlocks)
    return result


def test_block_ids_are_byte_offsets_in_quanta() -> None:
    p = pool()
    shape = p.register(100)
    assert shape == ShapeClass(block_bytes=128, blocks_per_slab=8)
    last, last_but_one = 3 * SLAB // QUANTUM, 2 * SLAB // QUANTUM
    assert allocated(p.allocate(shape, 10)) == [*range(last, last + 16, 2), last_but_one, last_but_one + 2]


def test_models_with_equal_rounded_blocks_share_a_class() -> None:
    p = pool(1)
    assert p.register(65) == p.register(128)
    p.allocate(p.register(65), 5)
    assert p.num_free_blocks(p.register(128)) == 3


def test_running_out_is_a_value_and_takes_nothing() -> None:
    p = pool(2)
    a, b = p.register(256), p.register(1024)
    taken = allocated(p.allocate(a, 1))
    assert p.allocate(b, 2) == OutOfBlocks(needed=2, free=1)
    assert p.allocate(a, 9) == OutOfBlocks(needed=9, free=7)
    assert p.stats().num_free_slabs == 1
    p.free(a, taken)
    assert len(allocated(p.allocate(b, 2))) == 2


def test_slab_changes_class_after_its_last_block() -> None:
    p = pool(1)
    a, b = p.register(512), p.register(192)
    first, second = allocated(p.allocate(a, 2))
    p.free(a, [first])
    assert p.num_free_blocks(b) == 0
    p.free(a, [second])
    assert p.num_free_blocks(b) == p.capacity_blocks(b) == 5


def test_fullest_slab_is_used_first() -> None:
    p = pool(3)
    shape = p.register(256)  # 4 per slab
    blocks = allocated(p.allocate(shape, 12))
    p.free(shape, blocks[0:3] + blocks[4:5] + blocks[8:10])  # free: 3 in slab 2, 1 in slab 1, 2 in slab 0
    slabs = [p.slab_of(block) for block in allocated(p.allocate(shape, 5))]
    assert slabs == [1, 0, 0, 2, 2]


def test_the_emptiest_slab_is_known_and_can_be_left_out() -> None:
    p = pool(3)
    shape, other = p.register(256), p.register(512)  # 4 and 2 per slab
    p.allocate(other, 2)
    blocks = allocated(p.allocate(shape, 8))
    assert list(p.sparse_slabs()) == []
    p.free(shape, [*blocks[:3], blocks[4]])
    (sparse,) = p.sparse_slabs()
    assert sparse == SparseSlab(p.slab_of(blocks[3]), shape, num_used=1, num_free_elsewhere=1)
    assert p.blocks_in(sparse.number) == [blocks[3]]
    assert [p.slab_of(block) for block in p.allocate_beside(sparse, 1)] == [p.slab_of(blocks[4])]
    assert p.num_free_blocks(shape) == 3


@pytest.mark.parametrize("wrong", [[0, 0], [1], [4096], [-1]])
def test_freeing_what_is_not_in_use_is_an_error(wrong: list[int]) -> None:
    p = pool()
    shape = p.register(128)
    p.allocate(shape, 2)
    with pytest.raises(ValueError, match="not in use"):
        p.free(shape, wrong)


def test_freeing_through_another_class_is_an_error() -> None:
    p = pool()
    a, b = p.register(128), p.register(256)
    with pytest.raises(ValueError, match="not in use"):
        p.free(b, allocated(p.allocate(a, 1)))


@pytest.mark.parametrize("sizes", [(SLAB - 1, SLAB, QUANTUM), (SLAB, SLAB, 100), (SLAB, 0, QUANTUM)])
def test_impossible_sizes_refuse(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError):
        SlabPool(*sizes)


def test_block_larger_than_a_slab_refuses_with_numbers() -> None:
    with pytest.raises(ConfigError, match=r"1088 bytes.*slab of 1024: raise worker\.slab"):
        pool().register(1025)


class PoolMachine(RuleBasedStateMachine):
    """Any order of allocations and frees of several classes, against a table of the bytes in use."""

    live = Bundle("live")

    def __init__(self) -> None:
        super().__init__()
        self.pool = pool(5)
        self.shapes = [self.pool.register(size) for size in (64, 130, 320, 1024)]
        self.owned: dict[int, ShapeClass] = {}  # block id -> class

    @rule(target=live, which=st.integers(0, 3), num_blocks=st.integers(0, 24))
    def allocate(self, which: int, num_blocks: int) -> object:
        shape = self.shapes[which]
        num_free = self.pool.num_free_blocks(shape)
        result = self.pool.allocate(shape, num_blocks)
        if isinstance(result, OutOfBlocks):
            assert result == OutOfBlocks(num_blocks, num_free) and num_blocks > num_free
            return multiple()
        assert len(result) == num_blocks <= num_free
        assert self.pool.num_free_blocks(shape) == num_free - num_blocks
        assert not self.owned.keys() & set(result)
        self.owned.update(dict.fromkeys(result, shape))
        return (shape, result)

    @rule(blocks=consumes(live))
    def free(self, blocks: tuple[ShapeClass, list[int]]) -> None:
        shape, block_ids = blocks
        num_free = self.pool.num_free_blocks(shape)
        self.pool.free(shape, block_ids)
        assert self.pool.num_free_blocks(shape) == num_free + len(block_ids)
        for block_id in block_ids:
            del self.owned[block_id]

    @rule(target=live, blocks=consumes(live), num_blocks=st.integers(1, 8))
    def compact(self, blocks: tuple[ShapeClass, list[int]], num_blocks: int) -> object:
        """The emptiest slab of the class gives blocks to the others."""
        shape, block_ids = blocks
        for slab in list(self.pool.sparse_slabs()):
            leaving = [block_id for block_id in block_ids if self.pool.slab_of(block_id) == slab.number]
            leaving = leaving[: min(num_blocks, slab.num_free_elsewhere)]
            if slab.shape != shape or not leaving:
                continue
            num_free, num_free_slabs = self.pool.num_free_blocks(shape), self.pool.stats().num_free_slabs
            new_ids = self.pool.allocate_beside(slab, len(leaving))
            assert not self.owned.keys() & set(new_ids)
            assert slab.number not in map(self.pool.slab_of, new_ids)
            assert self.pool.stats().num_free_slabs == num_free_slabs
            self.pool.free(shape, leaving)
            assert self.pool.num_free_blocks(shape) >= num_free
            for block_id in leaving:
                del self.owned[block_id]
            self.owned.update(dict.fromkeys(new_ids, shape))
            block_ids = [block_id for block_id in block_ids if block_id not in leaving] + new_ids
        return (shape, block_ids)

    @invariant()
    def blocks_lie_apart_and_within_a_slab(self) -> None:
        end = 0
        for block_id in sorted(self.owned):
            start, size = block_id * QUANTUM, self.owned[block_id].block_bytes
            assert start >= end
            end = start + size
            assert start // SLAB == (end - 1) // SLAB < self.pool.num_slabs

    @invariant()
    def free_and_used_are_all(self) -> None:
        stats = self.pool.stats()
        assert stats.used_bytes == sum(shape.block_bytes for shape in self.owned.values())
        held = {block_id * QUANTUM // SLAB for block_id in self.owned}
        assert stats.held_bytes == len(held) * SLAB
        assert stats.num_free_slabs == stats.num_slabs - len(held)
        for shape in self.shapes:
            num_used = sum(owner == shape for owner in self.owned.values())
            num_slabs = len({block * QUANTUM // SLAB for block, owner in self.owned.items() if owner == shape})
            others = len(held) - num_slabs
            assert num_used + self.pool.num_free_blocks(
                shape
            ) + others * shape.blocks_per_slab == self.pool.capacity_blocks(shape)


TestPoolMachine = PoolMachine.TestCase
