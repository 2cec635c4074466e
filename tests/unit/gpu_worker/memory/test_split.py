import pytest

from gpu_worker.memory.split import KvUse, SplitLimits, may_lend, may_take_back

LIMITS = SplitLimits(least_kv_slabs=4, most_kv_slabs=12)


def use(num_slabs: int, used_slabs: float = 0) -> KvUse:
    return KvUse(num_slabs, slab_bytes=100, used_bytes=int(used_slabs * 100))


@pytest.mark.parametrize(
    ("kv", "num_slabs", "lends", "lends_if_it_must"),
    [
        (use(8), 4, True, True),
        (use(8), 5, False, False),  # below what one sequence is promised
        (use(8, used_slabs=4.5), 2, True, True),
        (use(8, used_slabs=4.6), 2, False, True),  # more than three quarters of what is left
    ],
)
def test_kv_lends_while_it_stays_comfortable(kv: KvUse, num_slabs: int, lends: bool, lends_if_it_must: bool) -> None:
    assert may_lend(LIMITS, kv, num_slabs, must=False) == lends
    assert may_lend(LIMITS, kv, num_slabs, must=True) == lends_if_it_must


def test_kv_takes_back_up_to_its_most() -> None:
    assert may_take_back(LIMITS, use(8), 4)
    assert not may_take_back(LIMITS, use(8), 5)


def test_what_a_full_kv_took_is_not_lent_at_once() -> None:
    full = use(9, used_slabs=8)
    assert may_take_back(LIMITS, full, 1)
    assert not may_lend(LIMITS, use(10, used_slabs=8), 1, must=False)
