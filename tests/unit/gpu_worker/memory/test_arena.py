from itertools import combinations, pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.memory.arena import ALIGN_BYTES, Arena, Span, plan_eviction
from shared.ids import ModelName


def filled(total: int, sizes: list[int]) -> tuple[Arena, list[int]]:
    arena = Arena(total, align_bytes=1)
    offsets = [arena.allocate(size) for size in sizes]
    return arena, [offset for offset in offsets if offset is not None]


def test_ranges_are_aligned() -> None:
    arena = Arena(10 * ALIGN_BYTES + 5)
    assert arena.total_bytes == 10 * ALIGN_BYTES
    assert arena.allocate(1) == 0
    assert arena.allocate(ALIGN_BYTES + 1) == ALIGN_BYTES
    assert arena.allocate(ALIGN_BYTES) == 3 * ALIGN_BYTES
    assert arena.free_bytes == 6 * ALIGN_BYTES


def test_first_fit_reuses_a_gap() -> None:
    arena, (a, b, _c) = filled(100, [20, 30, 10])
    arena.free(a)
    assert arena.allocate(21) == 60
    assert arena.allocate(20) == a
    arena.free(b)
    assert arena.largest_free_range == 30


def test_former_address_is_preferred_when_free() -> None:
    arena, (a, b, _c) = filled(100, [20, 20, 20])
    arena.free(a)
    arena.free(b)
    assert arena.allocate(20, preferred_offset=b) == b
    assert arena.allocate(20, preferred_offset=b) == a
    assert arena.allocate(40, preferred_offset=99) == 60


def test_no_range_fits_though_bytes_suffice() -> None:
    arena, (a, _b, c) = filled(60, [20, 20, 20])
    arena.free(a)
    arena.free(c)
    assert arena.free_bytes == 40
    assert arena.allocate(21) is None


def test_freeing_twice_is_an_error() -> None:
    arena, (a, _) = filled(60, [20, 20])
    arena.free(a)
    with pytest.raises(ValueError, match="no range begins at 0"):
        arena.free(a)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 40), st.booleans()), max_size=40))
def test_spans_always_tile_the_arena(actions: list[tuple[int, int, bool]]) -> None:
    arena = Arena(40, align_bytes=4)
    live: dict[int, int] = {}
    for size, choice, free in actions:
        if free and live:
            offset = sorted(live)[choice % len(live)]
            arena.free(offset)
            del live[offset]
        else:
            largest = arena.largest_free_range
            allocated = arena.allocate(size, preferred_offset=choice)
            assert (allocated is not None) == (arena.rounded(size) <= largest)
            if allocated is not None:
                live[allocated] = arena.rounded(size)
        spans = arena.spans()
        assert {span.offset: span.num_bytes for span in spans if span.used} == live
        ends = [span.offset + span.num_bytes for span in spans]
        assert [span.offset for span in spans] == [0, *ends[:-1]] and ends[-1] == arena.total_bytes
        assert not any(not a.used and not b.used for a, b in pairwise(spans))  # joined


def test_nothing_to_evict_when_it_fits() -> None:
    arena, (a,) = filled(100, [20])
    assert plan_eviction(arena, 80, [(ModelName("a"), a)]) == []
    assert arena.spans() == [Span(0, 20, used=True), Span(20, 80, used=False)]


def test_evicts_the_latest_turn() -> None:
    arena, (a, b, c) = filled(60, [20, 20, 20])
    residents = [(ModelName("b"), b), (ModelName("a"), a), (ModelName("c"), c)]
    assert plan_eviction(arena, 20, residents) == ["c"]
    assert plan_eviction(arena, 40, residents) == ["b", "c"]  # only neighbours help


def test_models_that_must_stay_are_not_crossed() -> None:
    arena, (a, _b, c) = filled(60, [20, 20, 20])
    assert plan_eviction(arena, 40, [(ModelName("a"), a), (ModelName("c"), c)]) is None


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    gaps=st.sets(st.integers(0, 5)),
    order=st.permutations(range(6)),
    pinned=st.sets(st.integers(0, 5), max_size=2),
    needed=st.integers(1, 50),
)
def test_eviction_is_the_best_of_all_subsets(
    sizes: list[int], gaps: set[int], order: list[int], pinned: set[int], needed: int
) -> None:
    def build() -> tuple[Arena, dict[int, int]]:
        arena, offsets = filled(45, sizes)
        kept = {i: offset for i, offset in enumerate(offsets) if i not in gaps}
        for i in gaps & set(range(len(offsets))):
            arena.free(offsets[i])
        return arena, kept

    arena, kept = build()
    residents = [(ModelName(str(i)), kept[i]) for i in order if i in kept and i not in pinned]

    def fits_without(ranks: tuple[int, ...]) -> bool:
        trial, _ = build()
        for rank in ranks:
            trial.free(residents[rank][1])
        return trial.largest_free_range >= needed

    subsets = (c for k in range(len(residents) + 1) for c in combinations(range(len(residents)), k))
    expected = max(([*ranks, inf] for ranks in subsets if fits_without(ranks)), default=None)
    plan = plan_eviction(arena, needed, residents)
    if expected is None:
        assert plan is None
    else:
        assert plan == [residents[int(rank)][0] for rank in expected[:-1]]
