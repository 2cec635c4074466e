"""Tenants of one model: who is let in, what it costs whom, and what a place is worth."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker.scheduling.deadline import Deadline
from gpu_worker.scheduling.policy import Policy, WorkerView, order_key
from gpu_worker.scheduling.round_robin import RoundRobin
from gpu_worker.scheduling.step import admission, fill_step, is_runnable
from shared.fair_line import OUTPUT_WEIGHT, PROMPT_WEIGHT
from shared.ids import ModelName
from tests.unit.gpu_worker.scheduling.toy_worker import (
    BLOCK_TOKENS,
    ToyModel,
    ToySequence,
    ToyWorker,
    limits,
    model,
    request,
    sequence,
)

M0 = ModelName("m0")


def filled(toy: ToyModel, *others: ToyModel, max_step_tokens: int = 8) -> dict[str, int]:
    bounds = limits(max_step_tokens)
    rules = admission(WorkerView([toy, *others], bounds, 0))
    step = fill_step(toy, bounds.max_step_tokens, rules)
    assert bool(step) == is_runnable(toy, rules)
    return {str(key): count for key, count in step.items()}


def worker(policy: Policy, max_running: int = 4, num_slabs: int = 64) -> ToyWorker:
    toy = ToyWorker(policy, limits(16, max_running), [64], num_places=1, num_slabs=num_slabs)
    toy.models[M0].is_resident = True
    return toy


# --- who is let in ------------------------------------------------------------------------------


def test_a_newcomer_is_let_in_before_the_queue_of_another_tenant() -> None:
    toy = model("m", waiting=[sequence(f"flood{i}", 4, at=i, tenant="flood") for i in range(5)])
    toy.waiting.charge("flood", 1e6)
    toy.waiting.add(sequence("newcomer", 4, at=99, tenant="other"))
    assert list(filled(toy)) == ["newcomer", "flood0"]


def test_a_prompt_that_has_begun_does_not_hold_up_who_was_served_less() -> None:
    begun = sequence("long", 400, 8, at=0, tenant="flood")
    toy = model("m", [begun], [sequence("short", 3, at=99, tenant="other")])
    toy.waiting.charge("flood", 400.0)
    assert filled(toy) == {"short": 3, "long": 5}
    toy.waiting.charge("other", 500.0)
    assert filled(toy) == {"long": 8}


def test_priorities_are_above_tenants() -> None:
    toy = model("m", waiting=[sequence("urgent", 8, at=9, priority=-1, tenant="a"), sequence("b", 8, tenant="b")])
    toy.waiting.charge("a", 1000.0)
    assert filled(toy) == {"urgent": 8}


def test_under_the_deadline_policy_each_tenant_lets_its_late_ones_wait() -> None:
    now_s = 1000.0
    late_and_on_time = [(-5.0, "late"), (50.0, "on time")]
    waiting = [
        request(f"{tenant} {name}", 8, 4, now_s + due_in_s, tenant=tenant)
        for tenant in ("a", "b")
        for due_in_s, name in late_and_on_time
    ]
    turn = Deadline().plan(WorkerView([model("m", waiting=waiting)], limits(32, 8), 0), now_s)
    assert turn is not None
    assert list(turn.num_tokens) == ["a on time", "b on time", "a late", "b late"]


# --- what it costs ------------------------------------------------------------------------------


def test_a_tenant_pays_for_its_prompt_as_it_begins_and_for_each_token_of_output() -> None:
    toy = worker(RoundRobin())
    toy.submit(0, request("r", 20, 3, tenant="a"))
    line = toy.models[M0].waiting
    toy.step()  # 16 of the 20
    assert line.counter("a") == 20 * PROMPT_WEIGHT
    toy.step()
    assert line.counter("a") == 20 * PROMPT_WEIGHT + OUTPUT_WEIGHT


def test_nobody_pays_twice_for_what_was_preempted() -> None:
    one = request("r", 20, 3, tenant="a")
    toy = model("m", waiting=[one])
    toy.waiting.start(one)
    one.num_preemptions, one.num_computed_tokens = 1, 0
    toy.waiting.add(one)
    toy.waiting.start(one)
    assert toy.waiting.counter("a") == 20 * PROMPT_WEIGHT


# --- places -------------------------------------------------------------------------------------


def test_who_was_let_in_first_gives_way_last() -> None:
    """It passed the other tenant's earlier ones, and so it has their place."""
    flood = [request(f"flood{i}", 8, 4, at=i, tenant="flood") for i in range(3)]
    late = request("late", 8, 4, at=50, tenant="other")
    toy = model("m", waiting=[*flood, late])
    toy.waiting.charge("flood", 100.0)
    toy.waiting.start(late)
    assert late.place_s == 0.0 and late.first_due_at_s == 50
    toy.waiting.start(flood[0])
    assert order_key(late) > order_key(flood[0])  # whose place that was
    assert order_key(late) < order_key(flood[1])


def test_alone_a_tenants_places_are_its_deadlines() -> None:
    ones = [request(f"r{i}", 8, 4, at=10 - i, tenant="a") for i in range(3)]
    toy = model("m", waiting=ones)
    toy.waiting.start(ones[0])
    assert [one.place_s for one in ones] == [10, 9, 8]


def test_room_gathers_for_a_line_by_its_earliest() -> None:
    """Its first is another tenant's, later than what waits elsewhere; but it goes in the place of the earliest."""
    big = model("big", waiting=[sequence("earliest", 1, at=1, tenant="a")], num_free_blocks=3)
    big.waiting.charge("a", 100.0)
    big.waiting.add(sequence("first", 4 * BLOCK_TOKENS, at=9, tenant="b"))
    big.waiting.charge("a", 100.0)
    other = model("other", waiting=[sequence("before", 1, at=0), sequence("after", 1, at=2)])
    assert filled(other, big) == {"before": 1}


def test_as_many_pass_as_stand_before_whoever_they_are() -> None:
    big = model("big", waiting=[sequence("big", 4 * BLOCK_TOKENS, at=5)], num_free_blocks=3)
    ones = [sequence(f"a{i}", 1, at=i, tenant="a") for i in range(2)]
    ones += [sequence(f"b{i}", 1, at=10 + i, tenant="b") for i in range(3)]
    small = model("small", waiting=ones)
    assert list(filled(small, big)) == ["a0", "b0"]


# --- over time ----------------------------------------------------------------------------------


def served(toy: ToyWorker, ones: list[ToySequence]) -> Counter[str]:
    """Weighted tokens of each tenant, of what has begun."""
    found: Counter[str] = Counter()
    for one in ones:
        if one.num_computed_tokens:
            found[one.tenant] += round(PROMPT_WEIGHT * one.num_prompt_tokens + OUTPUT_WEIGHT * one.num_output_tokens)
    return found


@pytest.mark.parametrize("policy", [Deadline, RoundRobin])
@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 24), st.integers(1, 12)), min_size=2, max_size=4),
    max_running=st.integers(1, 6),
    num_ahead=st.integers(0, 60),
)
def test_tenants_that_wait_get_equal_shares(
    policy: type[Policy], sizes: list[tuple[int, int]], max_running: int, num_ahead: int
) -> None:
    """However many one of them sent before the others, and whatever each one's requests are like."""
    toy = worker(policy(), max_running)
    ones: list[ToySequence] = []

    def send(tenant: int) -> None:
        num_prompt, num_output = sizes[tenant]
        ones.append(request(f"r{len(ones):05}", num_prompt, num_output, at=len(ones), tenant=str(tenant)))
        assert toy.submit(0, ones[-1])

    for _ in range(num_ahead):
        send(0)
    began = served(toy, ones)
    for _ in range(120):
        for tenant in range(len(sizes)):
            while sum(one.tenant == str(tenant) for one in toy.models[M0].waiting) <= max_running:
                send(tenant)
        assert toy.step() is not None
    ended = served(toy, ones)
    largest = max(num_prompt * PROMPT_WEIGHT + num_output * OUTPUT_WEIGHT for num_prompt, num_output in sizes)
    got = [ended[str(tenant)] - began[str(tenant)] for tenant in range(len(sizes))]
    assert max(got) - min(got) <= 2 * max_running * largest


@pytest.mark.parametrize("policy", [Deadline, RoundRobin])
def test_nobody_starves_beside_many_that_come_and_go(policy: type[Policy]) -> None:
    """Twelve tenants send one request whenever they have none, all of them later than those of a thirteenth, which has
    been served much: who comes back is lifted to the least counter, so that has to rise."""
    toy = worker(policy(), max_running=2)
    old = {f"old{i}" for i in range(3)}
    for name in sorted(old):
        assert toy.submit(0, request(name, 8, 4, tenant="old"))
    toy.models[M0].waiting.charge("old", 100.0)
    num_sent = dict.fromkeys(range(12), 0)
    for step in range(1500):
        for tenant, num in num_sent.items():
            if num == 0 or f"{tenant}-{num}" in toy.finished:
                num_sent[tenant] = num + 1
                assert toy.submit(0, request(f"{tenant}-{num + 1}", 8, 4, at=100 + step, tenant=f"t{tenant}"))
        toy.step()
        if old <= toy.finished.keys():
            return
    pytest.fail("they never ran")
