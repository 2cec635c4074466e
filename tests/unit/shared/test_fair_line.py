from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shared import fair_line
from shared.fair_line import FairLine, Key, Line


@dataclass(eq=False)
class Item:
    name: str
    tenant: str = "a"
    place: float = 0.0
    cost: float = 1.0
    priority: int = 0

    @property
    def key(self) -> Key:
        return (self.priority, self.place, self.name)


def line(*items: Item, head_start: float = 0.0) -> FairLine[Item]:
    made = FairLine[Item](lambda item: item.key, lambda item: item.tenant, lambda item: item.cost, head_start)
    for item in items:
        made.add(item)
    return made


def names(items: Iterator[Item]) -> str:
    return " ".join(item.name for item in items)


def served(waiting: FairLine[Item], num: int) -> str:
    """As they are served one after the other."""
    found = []
    for _ in range(num):
        found.append(next(iter(waiting)))
        waiting.serve(found[-1])
    return names(iter(found))


# --- one tenant ---------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-1, 1), st.floats(0, 9)), max_size=20))
def test_of_one_tenant_it_is_the_order_of_keys(entries: list[tuple[int, float]]) -> None:
    items = [Item(f"{i}", place=place, priority=priority) for i, (priority, place) in enumerate(entries)]
    waiting = line(*items)
    for item in items[::3]:
        waiting.charge("a", 5.0)
        waiting.serve(item)
    rest = sorted((item for item in items if item not in items[::3]), key=lambda item: item.key)
    assert list(waiting) == rest and len(waiting) == len(rest)
    if rest:
        assert waiting.earliest is rest[0]
        assert waiting.num_before(rest[-1].key) == len(rest) - 1


def test_what_is_not_there_can_not_be_removed() -> None:
    here = Item("here")
    waiting = line(here)
    for gone in (Item("gone"), Item("here")):
        with pytest.raises(ValueError, match="is not waiting"):
            waiting.remove(gone)
    assert here in waiting and Item("here") not in waiting


# --- tenants in turn ----------------------------------------------------------------------------


def test_tenants_take_turns_by_what_they_were_served_not_by_what_they_ask() -> None:
    flood = [Item(f"a{i}", "a", place=i) for i in range(6)]
    others = [Item(f"b{i}", "b", place=10 + i) for i in range(2)]
    assert served(line(*flood, *others), 8) == "a0 b0 a1 b1 a2 a3 a4 a5"


def test_who_asks_for_more_at_a_time_comes_less_often() -> None:
    small = [Item(f"a{i}", "a", i) for i in range(6)]
    large = [Item(f"b{i}", "b", i, cost=3.0) for i in range(2)]
    assert served(line(*small, *large), 8) == "a0 b0 a1 a2 b1 a3 a4 a5"


def test_what_was_charged_later_counts() -> None:
    waiting = line(*(Item(f"{tenant}{i}", tenant, i) for tenant in "ab" for i in range(3)))
    waiting.charge("a", 2.0)
    assert waiting.counter("a") == 2.0
    assert served(waiting, 5) == "b0 b1 a0 b2 a1"


def test_iterating_shows_who_would_be_served() -> None:
    items = [
        Item(f"{tenant}{i}", tenant, i, cost) for tenant, cost in (("a", 1.0), ("b", 2.5), ("c", 4.0)) for i in range(5)
    ]
    assert names(iter(line(*items))) == served(line(*items), len(items))


def test_priorities_are_above_tenants() -> None:
    urgent = [Item(f"a{i}", "a", i, priority=-1) for i in range(3)]
    assert served(line(*urgent, Item("b", "b"), Item("later", "a")), 5) == "a0 a1 a2 b later"


def test_who_comes_back_has_saved_nothing_up() -> None:
    waiting = line(Item("b0", "b"), *(Item(f"a{i}", "a", i) for i in range(20)))
    assert served(waiting, 11).count("a") == 10
    for i in range(5):
        waiting.add(Item(f"b{1 + i}", "b", 30 + i))
    assert waiting.counter("b") == waiting.counter("a")
    assert served(waiting, 6) == "a10 b1 a11 b2 a12 b3"


def test_nor_where_nobody_waits() -> None:
    waiting = line(Item("a0", "a", cost=100.0))
    assert served(waiting, 1) == "a0"
    waiting.charge("a", 50.0)
    waiting.add(Item("b0", "b"))
    assert waiting.counter("b") == waiting.counter("a") == 150.0


def test_but_a_head_start_as_far_as_it_was_behind() -> None:
    waiting = line(Item("b0", "b"), *(Item(f"a{i}", "a", i) for i in range(30)), head_start=4.0)
    assert served(waiting, 3) == "a0 b0 a1"
    waiting.add(Item("b1", "b", place=50))
    assert waiting.counter("b") == 1.0  # as before: a is not much ahead
    assert served(waiting, 11).count("a") == 10
    for i in range(6):
        waiting.add(Item(f"b{2 + i}", "b", place=50 + i))
    assert waiting.counter("a") - waiting.counter("b") == 4.0
    assert served(waiting, 6) == "b2 b3 b4 b5 a12 b6"


def test_and_pays_what_it_owes() -> None:
    waiting = line(Item("b0", "b"), *(Item(f"a{i}", "a", i, cost=10.0) for i in range(3)))
    waiting.charge("b", 35.0)
    assert served(waiting, 2) == "a0 a1"
    waiting.remove(next(item for item in waiting if item.tenant == "b"))
    waiting.add(Item("b1", "b"))
    assert waiting.counter("b") == 35.0 > waiting.counter("a")


def test_each_tenants_order_is_up_to_the_caller() -> None:
    def backwards(items: Line[Item]) -> Iterator[Item]:
        return reversed(list(items))

    waiting = line(*(Item(f"{tenant}{i}", tenant, i) for tenant in "ab" for i in range(3)))
    assert names(waiting.fairly(backwards)) == "a2 b2 a1 b1 a0 b0"


def test_looking_at_the_first_touches_few_tenants() -> None:
    num_opened = 0

    def counted(items: Line[Item]) -> Iterator[Item]:
        nonlocal num_opened
        num_opened += 1
        return iter(items)

    waiting = line(*(Item(f"{i:04}", f"tenant {i}", i) for i in range(1000)))
    assert names(islice(waiting.fairly(counted), 3)) == "0000 0001 0002"
    assert num_opened <= 5


def test_counters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_line, "MAX_AWAY", 3)
    waiting = line()
    for i in range(10):
        item = Item(f"{i}", f"tenant {i}", cost=10.0)
        waiting.add(item)
        waiting.serve(item)
        assert waiting.counter(f"tenant {i}") == 10.0 * (i + 1)  # who was dropped takes nothing with it
    assert len(waiting._away) == 3


# --- the bound ----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    costs=st.lists(st.lists(st.floats(1.0, 8.0), min_size=1, max_size=4), min_size=2, max_size=4),
    outputs=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    num_slots=st.integers(1, 4),
)
def test_tenants_that_both_wait_differ_by_a_bounded_amount(
    costs: list[list[float]], outputs: list[int], num_slots: int
) -> None:
    """As the paper proves: over any time in which both wait, by at most 2 * max(the largest prompt, all that one
    batch can hold), weighted."""
    waiting, running = line(), list[tuple[str, int]]()
    got: defaultdict[str, float] = defaultdict(float)
    history: list[dict[str, float]] = []
    tenants = [f"t{i}" for i in range(len(costs))]
    num_made = dict.fromkeys(tenants, 0)

    def keep_waiting(tenant: str) -> None:
        cost = costs[tenants.index(tenant)][num_made[tenant] % len(costs[tenants.index(tenant)])]
        num_made[tenant] += 1
        waiting.add(Item(f"{tenant}-{num_made[tenant]}", tenant, num_made[tenant], cost))

    for tenant in tenants:
        for _ in range(num_slots + 1):
            keep_waiting(tenant)
    for step in range(150):
        while len(running) < num_slots:
            item = next(iter(waiting))
            waiting.serve(item)
            got[item.tenant] += item.cost
            running.append((item.tenant, outputs[step % len(outputs)]))
            keep_waiting(item.tenant)
        for tenant, num_left in running:
            if num_left:
                waiting.charge(tenant, fair_line.OUTPUT_WEIGHT)
                got[tenant] += fair_line.OUTPUT_WEIGHT
        running = [(tenant, num_left - 1) for tenant, num_left in running if num_left > 1]
        history.append(dict(got))
    largest = max(max(of_tenant) for of_tenant in costs)
    bound = 2 * max(largest, num_slots * (fair_line.OUTPUT_WEIGHT * max(outputs) + largest))
    for one, other in permutations(tenants, 2):
        ahead = [counts.get(one, 0.0) - counts.get(other, 0.0) for counts in history]
        assert max(ahead) - min(ahead) <= bound


class FairLineMachine(RuleBasedStateMachine):
    """Against a plain model: the least counter of those that wait, then the least key."""

    @initialize()
    def begin(self) -> None:
        self.line = line()
        self.items: list[Item] = []
        self.num_made = 0

    @rule(tenant=st.sampled_from("abcd"), priority=st.integers(0, 1), place=st.integers(0, 5), cost=st.integers(0, 9))
    def add(self, tenant: str, priority: int, place: int, cost: int) -> None:
        self.num_made += 1
        item = Item(f"{self.num_made:03}", tenant, place, cost, priority)
        others = [self.line.counter(other.tenant) for other in self.items]
        before = self.line.counter(tenant)
        is_new = all(other.tenant != tenant for other in self.items)
        self.line.add(item)
        self.items.append(item)
        if others:
            assert self.line.counter(tenant) == (max(before, min(others)) if is_new else before)
        assert self.line.counter(tenant) >= before

    @rule(tenant=st.sampled_from("abcd"), cost=st.integers(0, 9))
    def charge(self, tenant: str, cost: int) -> None:
        self.line.charge(tenant, cost)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.items:
            item = data.draw(st.sampled_from(self.items))
            self.items.remove(item)
            self.line.remove(item)

    @rule()
    def serve(self) -> None:
        if self.items:
            assert self.line.first is next(iter(self.line))
            first = min(
                self.items, key=lambda item: (item.priority, self.line.counter(item.tenant), item.place, item.name)
            )
            shown = next(iter(self.line))
            assert (shown.priority, self.line.counter(shown.tenant)) == (
                first.priority,
                self.line.counter(first.tenant),
            )
            of_tenant = [item for item in self.items if item.tenant == shown.tenant]
            assert shown is min(of_tenant, key=lambda item: item.key)
            self.items.remove(shown)
            self.line.serve(shown)

    @invariant()
    def shows_everything_once(self) -> None:
        assert sorted(item.name for item in self.line) == sorted(item.name for item in self.items)
        assert self.line.num_tenants == len({item.tenant for item in self.items})
        assert len(self.line) == len(self.items)


TestFairLine = FairLineMachine.TestCase
TestFairLine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
