import hypothesis.strategies as st
import pytest
from hypothesis import given

from gpu_worker.memory.slab_pool import SlabPool
from gpu_worker.memory.slab_size import LEAST_SLABS, choose_slab_bytes, idle_share

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
QUANTUM = 4096
DEMO, QWEN_7B, LLAMA_8B, LLAMA_13B = 360 * KIB, 896 * KIB, 2 * MIB, 12_800 * KIB
blocks = st.lists(st.integers(1, 3 * MIB), max_size=6)


@given(st.integers(QUANTUM, 200 * MIB), blocks)
def test_every_known_block_that_fits_the_pool_fits_a_slab(pool_bytes: int, block_bytes: list[int]) -> None:
    slab_bytes = choose_slab_bytes(pool_bytes, block_bytes, QUANTUM)
    pool = SlabPool(pool_bytes, slab_bytes, QUANTUM)
    assert pool.num_slabs >= 1
    fitting = [num_bytes for num_bytes in block_bytes if num_bytes <= pool_bytes // QUANTUM * QUANTUM]
    for num_bytes in fitting:
        pool.register(num_bytes)
    num_classes = len(pool.slabs_by_class())
    largest = max((shape.block_bytes for shape, _ in pool.slabs_by_class()), default=QUANTUM)
    assert pool.num_slabs >= max(LEAST_SLABS, num_classes) or slab_bytes == largest


@given(st.integers(500, 2000), st.lists(st.integers(1, 64), min_size=1, max_size=4))
def test_no_other_size_leaves_less_idle(pool_mib: int, block_mib: list[int]) -> None:
    pool_bytes, classes = pool_mib * MIB, {num * MIB for num in block_mib}
    chosen = choose_slab_bytes(pool_bytes, classes, MIB)
    least, most = max(*block_mib, pool_mib // 256, 4), pool_mib // LEAST_SLABS
    others = [size * MIB for size in range(least, most + 1)]
    assert all(idle_share(chosen, classes, pool_bytes) <= idle_share(size, classes, pool_bytes) for size in others)


@given(st.lists(st.sampled_from([DEMO, QWEN_7B, LLAMA_8B, LLAMA_13B]), min_size=1))
def test_classes_of_real_models_leave_little_idle_in_a_large_pool(block_bytes: list[int]) -> None:
    slab_bytes = choose_slab_bytes(32 * GIB, block_bytes, QUANTUM)
    assert idle_share(slab_bytes, set(block_bytes), 32 * GIB) < 0.02


@pytest.mark.parametrize(
    ("pool_bytes", "slab_bytes"), [(32 * MIB, 2 * MIB), (GIB, 4 * MIB), (4 * GIB, 16 * MIB), (100 * GIB, 64 * MIB)]
)
def test_without_models_there_is_room_for_blocks_of_those_that_come(pool_bytes: int, slab_bytes: int) -> None:
    assert choose_slab_bytes(pool_bytes, (), QUANTUM) == slab_bytes


def test_a_block_that_the_pool_could_not_hold_decides_nothing() -> None:
    assert choose_slab_bytes(64 * MIB, (65 * MIB,), QUANTUM) == choose_slab_bytes(64 * MIB, (), QUANTUM)


def test_a_large_block_makes_few_slabs_rather_than_none() -> None:
    assert choose_slab_bytes(64 * MIB, (DEMO, LLAMA_13B), QUANTUM) == LLAMA_13B


@given(blocks)
def test_workers_with_the_same_models_choose_the_same(block_bytes: list[int]) -> None:
    assert choose_slab_bytes(GIB, block_bytes, QUANTUM) == choose_slab_bytes(GIB, set(reversed(block_bytes)), QUANTUM)
