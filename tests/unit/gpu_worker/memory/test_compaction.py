"""When a slab is emptied, which one, and how much at a time."""

import random

import pytest

from gpu_worker.memory.compaction import choose_slab, num_blocks_to_move
from gpu_worker.memory.slab_pool import OutOfBlocks, PoolStats, ShapeClass, SlabPool, SparseSlab

SMALL, LARGE = ShapeClass(block_bytes=8, blocks_per_slab=16), ShapeClass(block_bytes=32, blocks_per_slab=4)
SLAB = 128


def stats(num_free_slabs: int, idle_bytes: int, num_slabs: int = 64) -> PoolStats:
    held_bytes = (num_slabs - num_free_slabs) * SLAB
    return PoolStats(num_slabs * SLAB, held_bytes - idle_bytes, held_bytes, num_slabs, num_free_slabs)


def test_the_slab_that_costs_the_fewest_bytes() -> None:
    cheap, dear = SparseSlab(1, SMALL, 3, num_free_elsewhere=20), SparseSlab(2, LARGE, 1, num_free_elsewhere=5)
    assert choose_slab(stats(0, 1000), [dear, cheap]) == cheap
    assert choose_slab(stats(0, 1000), [dear]) == dear


@pytest.mark.parametrize(("num_free_slabs", "idle_bytes"), [(16, 1000), (0, SLAB - 1)])
def test_nothing_moves_where_slabs_are_free_or_little_is_idle(num_free_slabs: int, idle_bytes: int) -> None:
    assert choose_slab(stats(num_free_slabs, idle_bytes), [SparseSlab(1, SMALL, 1, num_free_elsewhere=99)]) is None


@pytest.mark.parametrize(
    "slab",
    [
        SparseSlab(1, SMALL, 8, num_free_elsewhere=11),  # would take it back for its next few blocks
        SparseSlab(1, SMALL, 13, num_free_elsewhere=99),  # nearly full
        SparseSlab(1, LARGE, 1, num_free_elsewhere=0),
    ],
)
def test_a_slab_that_is_not_worth_it_stays(slab: SparseSlab) -> None:
    assert choose_slab(stats(0, 1000), [slab]) is None


def test_a_step_is_delayed_by_a_bounded_number_of_bytes_or_one_block() -> None:
    slab = SparseSlab(1, LARGE, 3, num_free_elsewhere=9)
    assert [num_blocks_to_move(slab, most_bytes) for most_bytes in (1, 31, 64, 95, 96, 1000)] == [1, 1, 2, 2, 3, 3]


def test_it_comes_to_an_end_and_no_slab_comes_back_at_once() -> None:
    rng = random.Random(1)
    pool = SlabPool(64 * SLAB, SLAB, 8)
    shapes = [pool.register(size) for size in (8, 32)]
    live: dict[int, ShapeClass] = {}
    for shape in shapes:
        block_ids = pool.allocate(shape, 32 * shape.blocks_per_slab)
        assert not isinstance(block_ids, OutOfBlocks)
        live |= dict.fromkeys(block_ids, shape)
    for block_id in rng.sample(sorted(live), len(live) // 2):
        pool.free(live.pop(block_id), [block_id])
    idle_before = pool.stats().held_bytes - pool.stats().used_bytes
    for _ in range(len(live)):
        slab = choose_slab(pool.stats(), pool.sparse_slabs())
        if slab is None:
            break
        leaving = pool.blocks_in(slab.number)[: num_blocks_to_move(slab, most_bytes=16)]
        pool.allocate_beside(slab, len(leaving))
        pool.free(slab.shape, leaving)
    assert slab is None
    now = pool.stats()
    assert now.num_free_slabs >= now.num_slabs // 4
    assert now.held_bytes - now.used_bytes < idle_before
    for shape in shapes:
        assert not isinstance(pool.allocate(shape, 1), OutOfBlocks)
    assert pool.stats().num_free_slabs == now.num_free_slabs
