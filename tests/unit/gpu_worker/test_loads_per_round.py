"""Models of equal size in a fixed order of turns: how often weights are brought in, against the best that is possible.

On demand the best is (N - k) * N / (N - 1) loads a round (Belady's rule on a cycle). With the next model brought in
ahead of its turn, two models are needed at a time, and a search over all choices says what is the best.
"""

from itertools import combinations

import pytest

from gpu_worker.memory.arena import ALIGN_BYTES, Arena, plan_eviction
from shared.ids import ModelName
from tests.unit.gpu_worker.test_loader import Place, settle

NUM_ROUNDS = 60
WARM_UP_ROUNDS = 10


def cycle(num_models: int) -> list[ModelName]:
    return [ModelName(chr(ord("a") + i)) for i in range(num_models)]


def coming(names: list[ModelName], turn: int) -> list[ModelName]:
    """From whose turn it is on."""
    at = turn % len(names)
    return names[at:] + names[:at]


def loads_on_demand(num_models: int, num_places: int) -> float:
    names = cycle(num_models)
    arena = Arena(num_places * ALIGN_BYTES)
    offsets: dict[ModelName, int] = {}
    num_loads = 0
    for turn in range(num_models * NUM_ROUNDS):
        order = coming(names, turn)
        if order[0] in offsets:
            continue
        evicted = plan_eviction(arena, ALIGN_BYTES, [(name, offsets[name]) for name in order if name in offsets])
        assert evicted is not None
        for name in evicted:
            arena.free(offsets.pop(name))
        offset = arena.allocate(ALIGN_BYTES)
        assert offset is not None
        offsets[order[0]] = offset
        num_loads += turn >= num_models * WARM_UP_ROUNDS
    return num_loads / (NUM_ROUNDS - WARM_UP_ROUNDS)


async def loads_ahead(num_models: int, num_places: int) -> tuple[float, int]:
    """Loads a round, and how many turns had to wait for theirs."""
    names = cycle(num_models)
    place = Place(num_places, "".join(names), names=names)
    num_waits = num_before = 0
    for turn in range(num_models * NUM_ROUNDS):
        if turn == num_models * WARM_UP_ROUNDS:
            num_waits, num_before = 0, place.num_transfers
        order = coming(names, turn)
        place.turns = order[1:] + order[:1]  # who has just been given its turn is last
        num_waits += await place.bring(order[0]) == "streamed"
        place.loader.prefetch()
        await settle()
        place.arrive_all()
        await settle()
    return (place.num_transfers - num_before) / (NUM_ROUNDS - WARM_UP_ROUNDS), num_waits


def best_ahead(num_models: int, num_places: int) -> float:
    """The fewest loads a round when at each turn that model and the next are on the device: by exhaustive search."""
    costs = {frozenset(places): 0 for places in combinations(range(num_models), num_places)}
    totals = []
    for _ in range(NUM_ROUNDS):
        for turn in range(num_models):
            needed = {turn, (turn + 1) % num_models}
            costs = {
                after: min(cost + len(after - before) for before, cost in costs.items())
                for after in costs
                if needed <= after
            } | {after: 10**9 for after in costs if not needed <= after}
        totals.append(min(costs.values()))
    return (totals[-1] - totals[WARM_UP_ROUNDS - 1]) / (NUM_ROUNDS - WARM_UP_ROUNDS)


@pytest.mark.parametrize(("num_models", "num_places"), [(n, k) for n in range(2, 9) for k in range(1, n)])
def test_on_demand_it_is_the_least_possible(num_models: int, num_places: int) -> None:
    expected = (num_models - num_places) * num_models / (num_models - 1)
    assert loads_on_demand(num_models, num_places) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(("num_models", "num_places"), [(n, k) for n in range(3, 7) for k in range(2, n)])
async def test_ahead_of_turns_it_is_the_least_possible_and_nobody_waits(num_models: int, num_places: int) -> None:
    loads, num_waits = await loads_ahead(num_models, num_places)
    assert loads <= best_ahead(num_models, num_places) + 0.1
    assert num_waits == 0


def test_what_five_models_on_two_or_three_places_need() -> None:
    assert loads_on_demand(5, 2) == pytest.approx(3.75, abs=0.1)
    assert best_ahead(5, 2) == pytest.approx(5.0, abs=0.1)
    assert best_ahead(5, 3) == pytest.approx(3.34, abs=0.1)
