from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.memory.arena import Arena, plan_eviction
from gpu_worker.memory.eviction import Place, plan_cheapest_eviction
from shared.ids import ModelName

A, B, C, D = (ModelName(name) for name in "abcd")
Residents = list[tuple[ModelName, int]]


def filled(total: int, sizes: dict[ModelName, int]) -> tuple[Arena, dict[ModelName, Place], Residents]:
    """One after the other from address 0 on, as far as there is room."""
    arena, places, residents = Arena(total, align_bytes=1), dict[ModelName, Place](), Residents()
    for name, size in sizes.items():
        offset = arena.allocate(size)
        places[name] = Place(size, offset)
        if offset is not None:
            residents.append((name, offset))
    return arena, places, residents


def test_a_small_model_goes_though_a_large_one_comes_later() -> None:
    arena, places, residents = filled(12, {A: 2, B: 10, C: 2})
    assert plan_eviction(arena, 2, residents) == [B]
    assert plan_cheapest_eviction(arena, C, places, residents, [A, B]) == [A]


def test_a_large_model_goes_when_it_has_no_work() -> None:
    arena, places, residents = filled(12, {A: 2, B: 10, C: 2})
    assert plan_cheapest_eviction(arena, C, places, residents, [A]) == [B]


def test_what_was_never_placed_is_not_reckoned_with() -> None:
    arena, places, residents = filled(12, {A: 2, B: 10, C: 2})
    assert plan_cheapest_eviction(arena, C, places, residents, [D, A, B]) == [A]


def test_nobody_goes_when_it_fits_and_nothing_helps_when_it_can_not() -> None:
    arena, places, residents = filled(12, {A: 2, B: 4, C: 6, D: 9})
    arena.free(residents.pop()[1])
    assert plan_cheapest_eviction(arena, C, places, residents, [A, B]) == []
    assert plan_cheapest_eviction(arena, D, places, residents[:1], [A, B]) is None  # B must stay


sizes = st.dictionaries(st.sampled_from([A, B, C, D, ModelName("e")]), st.integers(1, 9), min_size=2)


@given(sizes, st.integers(9, 30))
def test_who_goes_may_go_and_is_enough(sizes: dict[ModelName, int], total: int) -> None:
    *others, newcomer = sizes
    arena, places, residents = filled(total, {name: sizes[name] for name in others})
    places[newcomer] = Place(sizes[newcomer], None)
    plan = plan_cheapest_eviction(arena, newcomer, places, residents, others)
    assert (plan is None) == (plan_eviction(arena, sizes[newcomer], residents) is None)
    offsets = dict(residents)
    for name in plan or []:
        arena.free(offsets.pop(name))
    assert plan is None or arena.largest_free_range >= sizes[newcomer]


@given(st.integers(1, 5), st.integers(5, 25), st.permutations([A, B, C, D]))
def test_equal_sizes_are_beladys(size: int, total: int, order: list[ModelName]) -> None:
    newcomer, *others = order
    arena, places, residents = filled(total, dict.fromkeys(others, size))
    places[newcomer] = Place(size, None)
    expected = plan_eviction(arena, size, residents)
    assert plan_cheapest_eviction(arena, newcomer, places, residents, others) == expected
