from collections import deque
from dataclasses import dataclass, field

import pytest

from benchmarks.flatness.containers import held
from benchmarks.flatness.samples import Samples, growth
from gpu_worker.memory.arena import Arena

REQUESTS = [100.0 * i for i in range(1, 21)]


def test_growth_is_the_slope_of_the_last_half() -> None:
    sizes = [1000.0 * i for i in range(10)] + [10_000 + 0.2 * requests for requests in REQUESTS[10:]]
    grown = growth(REQUESTS, sizes)
    assert (grown.per_1000, grown.error) == (pytest.approx(200), pytest.approx(0, abs=1e-6))
    assert grown.is_flat is False


@pytest.mark.parametrize(
    ("slope", "noise", "is_flat"),
    [(0.0, 0.0, True), (0.0009, 0.0, True), (0.0011, 0.0, False), (-1.0, 0.0, True), (0.0, 20.0, None)],
)
def test_flat_is_less_than_a_hundredth_in_ten_thousand_requests(
    slope: float, noise: float, is_flat: bool | None
) -> None:
    sizes = [1000 + slope * requests + noise * (-1) ** i for i, requests in enumerate(REQUESTS)]
    assert growth(REQUESTS, sizes).is_flat is is_flat


def test_samples_come_back_as_columns() -> None:
    samples = Samples()
    samples.add(100, {"a": 1})
    samples.add(200, {"a": 2, "b": 3})
    assert samples.columns() == {"requests": [100, 200], "a": [1, 2], "b": [0, 3]}


def test_containers_of_our_objects_are_counted_over_all_instances() -> None:
    arenas = [Arena(8 << 20), Arena(8 << 20)]
    for arena in arenas:
        arena.allocate(2 << 20)
    assert held([*arenas, [1, 2, 3]]) == {"Arena._free": 2, "Arena._used": 2}


def test_attributes_in_slots_are_counted_too() -> None:
    @dataclass(slots=True)
    class Slotted:
        waiting: deque[int] = field(default_factory=lambda: deque([1, 2]))

    Slotted.__module__ = "gpu_worker.anything"
    assert held([Slotted()]) == {"Slotted.waiting": 2}
