from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy import Choose, FleetView, Hold, Refuse, choose_worker
from router.state import Worker, new_worker
from shared.errors import ErrorCode
from shared.messages import WorkerBeat
from tests.unit.router.builders import MODEL, ROUTER, State, beat, submit


def choose(*beats: WorkerBeat, age_s: float = 0.0, bonus: float = 2.0) -> Choose | Hold | Refuse:
    workers = [new_worker(one, 100.0, ROUTER) for one in beats]
    return choose_worker(FleetView(workers, bonus), submit(), 100.0 + age_s)


def test_least_loaded() -> None:
    assert choose(beat("w0", load=3), beat("w1", load=1), beat("w2", load=2)) == Choose(beat("w1").worker)


def test_load_counts_every_model() -> None:
    busy_elsewhere = beat("w0", {"other": "cached", MODEL: "cached"}, load=4)
    assert choose(busy_elsewhere, beat("w1", load=1)) == Choose(beat("w1").worker)


@pytest.mark.parametrize(("load", "chosen"), [(1, "w1"), (2, "w0"), (3, "w0")])
def test_residency_is_worth_its_bonus(load: int, chosen: str) -> None:
    home = beat("w1", {"other": "cached", MODEL: "resident"}, load=load)
    assert choose(beat("w0"), home) == Choose(beat(chosen).worker)


@pytest.mark.parametrize("unable", [beat("w0", draining=True), beat("w0", {"other": "resident"})])
def test_only_workers_that_can_take_it(unable: WorkerBeat) -> None:
    assert choose(unable) == Hold()
    assert choose(unable, beat("w1", load=9)) == Choose(beat("w1").worker)


def test_no_new_work_after_three_missed_beats() -> None:
    assert choose(beat("w0"), age_s=1.49) == Choose(beat("w0").worker)
    assert choose(beat("w0"), age_s=1.5) == Hold()


def test_holds_while_nobody_is_there_or_still_loading() -> None:
    assert choose() == Hold()
    assert choose(beat("w0", {MODEL: "loading"})) == Hold()
    assert choose(beat("w0", {MODEL: "loading"}), beat("w1", {MODEL: "failed"})) == Hold()


def test_refuses_what_failed_everywhere_with_the_reason() -> None:
    failed = beat("w0", {MODEL: "failed"}, reason="probe mismatch")
    decision = choose(failed, beat("w1", {"other": "cached"}))
    assert decision == Refuse(ErrorCode.UNAVAILABLE, "model 'm' can't run: probe mismatch")
    assert choose(failed, beat("w1", load=50)) == Choose(beat("w1").worker)


def arrive(workers: list[Worker], num: int, numbers: "count[int]", bonus: float = 2.0) -> Counter[str]:
    chosen: Counter[str] = Counter()
    for _ in range(num):
        decision = choose_worker(FleetView(workers, bonus), submit(), 100.0)
        assert isinstance(decision, Choose)
        chosen[decision.worker] += 1
        worker = next(w for w in workers if w.beat.worker == decision.worker)
        worker.unseen[next(numbers)] = MODEL
    return chosen


@pytest.mark.parametrize("state", ["cached", "resident"])
def test_a_burst_spreads_over_equal_workers(state: State) -> None:
    workers = [new_worker(beat(f"w{i}", {MODEL: state}), 100.0, ROUTER) for i in range(4)]
    assert set(arrive(workers, 100, count(1)).values()) <= {23, 24, 25, 26, 27}


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3), st.floats(0, 1)), max_size=8))
def test_a_burst_spreads_with_echoes_in_between(steps: list[tuple[int, int, float]]) -> None:
    """A beat in the middle has seen part of what was assigned; the rest still counts."""
    workers = [new_worker(beat(f"w{i}"), 100.0, ROUTER) for i in range(4)]
    given_to: dict[str, list[int]] = {f"w{i}": [] for i in range(4)}
    numbers = count(1)
    for num_arrivals, which, seen_part in [*steps, (20, 0, 0.0)]:
        before = {w.beat.worker: set(w.unseen) for w in workers}
        arrive(workers, num_arrivals, numbers)
        for w in workers:
            given_to[w.beat.worker] += sorted(set(w.unseen) - before[w.beat.worker])
        assert max(map(len, given_to.values())) - min(map(len, given_to.values())) <= 2
        mine = given_to[f"w{which}"]
        num_seen = round(len(mine) * seen_part)
        echo = (ROUTER, mine[num_seen - 1]) if num_seen else None
        if len(mine) - num_seen <= len(workers[which].unseen):  # an echo never goes back
            workers[which].hear(beat(f"w{which}", load=num_seen, echo=echo), 100.0, ROUTER)
        assert workers[which].load == len(mine)


def test_a_burst_does_not_herd_to_where_the_model_is_resident() -> None:
    states: list[State] = ["resident", "cached", "cached", "cached"]
    workers = [new_worker(beat(f"w{i}", {MODEL: state}), 100.0, ROUTER) for i, state in enumerate(states)]
    numbers = count(1)
    for _ in range(100):
        arrive(workers, 1, numbers)
        loads = [worker.load for worker in workers]
        assert max(loads) - min(loads) <= 2


def test_requests_of_a_model_keep_together_before_it_is_resident() -> None:
    workers = [new_worker(beat(f"w{i}", {"a": "cached", "b": "cached"}), 100.0, ROUTER) for i in range(2)]
    for number, model in enumerate("abab"):
        decision = choose_worker(FleetView(workers, 2.0), submit(model=model), 100.0)
        assert isinstance(decision, Choose)
        next(w for w in workers if w.beat.worker == decision.worker).unseen[number] = submit(model=model).model
    assert sorted(sorted(worker.unseen.values()) for worker in workers) == [["a", "a"], ["b", "b"]]


def test_an_echo_for_another_router_covers_nothing() -> None:
    worker = new_worker(beat("w0"), 100.0, ROUTER)
    worker.unseen = {1: MODEL, 2: MODEL}
    worker.hear(beat("w0", load=5, echo=("router-0", 99)), 100.0, ROUTER)
    assert worker.load == 7
    worker.hear(beat("w0", load=5, echo=(ROUTER, 1)), 100.0, ROUTER)
    assert worker.load == 6
