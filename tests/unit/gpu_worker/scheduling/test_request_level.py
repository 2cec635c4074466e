from collections.abc import Callable

import pytest

from gpu_worker.scheduling.policy import ModelView, SequenceView, WorkerView
from gpu_worker.scheduling.request_level import JobKey, RequestLevel, first_come, shortest_job
from shared.ids import RequestId
from tests.unit.gpu_worker.scheduling.toy_worker import ToyWorker, limits, request


def worker(policy: RequestLevel, max_running: int = 8, num_models: int = 3) -> ToyWorker:
    return ToyWorker(policy, limits(max_running=max_running), [64] * num_models, num_places=1)


def ran(toy: ToyWorker) -> list[str]:
    """The models that had the device one after the other, until nobody needs it."""
    models: list[str] = []
    while (turn := toy.step()) is not None:
        if models[-1:] != [turn.model]:
            models.append(turn.model)
    return models


def test_the_oldest_keeps_the_device_until_it_has_finished() -> None:
    toy = worker(RequestLevel(first_come))
    toy.submit(1, request("second", 4, 3, at=2))
    toy.submit(0, request("first", 4, 20, at=1))
    toy.submit(0, request("third", 4, 9, at=3))
    assert ran(toy) == ["m0", "m1", "m0"]
    assert list(toy.finished) == ["first", "second", "third"]


def test_who_is_next_in_line_for_the_same_model_runs_beside_it() -> None:
    toy = worker(RequestLevel(first_come))
    for i, (which, at) in enumerate([(0, 1), (0, 2), (1, 3), (0, 4)]):
        toy.submit(which, request(f"r{i}", 4, 5, at=at))
    assert ran(toy) == ["m0", "m1", "m0"]
    turns = [toy.finished[RequestId(f"r{i}")] for i in range(4)]
    assert turns[0] == turns[1] < turns[2] < turns[3]


def test_overtaking_all_that_wait_for_the_model_go_along() -> None:
    toy = worker(RequestLevel(first_come, overtaking=True))
    toy.submit(1, request("second", 4, 3, at=2))
    toy.submit(0, request("first", 4, 20, at=1))
    toy.submit(0, request("goes along", 4, 9, at=3))
    assert ran(toy) == ["m0", "m1"]
    assert toy.finished["first"] < toy.finished["second"]  # type: ignore[index]
    assert len(toy.copied_at_step) == 2


def test_who_arrives_for_the_running_model_joins_it_while_nobody_else_waits() -> None:
    toy = worker(RequestLevel(first_come))
    toy.submit(0, request("running", 4, 20, at=1))
    toy.step()
    toy.submit(0, request("joins", 4, 5, at=2))
    turn = toy.step()
    assert turn is not None and "joins" in turn.num_tokens


def test_who_arrives_later_than_others_waits_for_the_next_batch_of_its_model() -> None:
    toy = worker(RequestLevel(first_come))
    toy.submit(0, request("running", 4, 20, at=1))
    toy.step()
    toy.submit(1, request("other", 4, 5, at=2))
    toy.submit(0, request("late", 4, 2, at=3))
    assert ran(toy) == ["m0", "m1", "m0"]
    assert list(toy.finished) == ["running", "other", "late"]


def test_a_batch_has_at_most_max_running() -> None:
    toy = worker(RequestLevel(first_come, overtaking=True), max_running=2)
    for i in range(3):
        toy.submit(0, request(f"r{i}", 4, 5, at=i))
    toy.submit(1, request("other", 4, 5, at=1.5))
    assert ran(toy) == ["m0", "m1", "m0"]
    assert list(toy.finished) == ["r0", "r1", "other", "r2"]


def test_the_shortest_job_goes_first() -> None:
    toy = worker(RequestLevel(shortest_job))
    toy.submit(0, request("long output", 4, 30, at=1))
    toy.submit(1, request("long prompt", 60, 5, at=2))
    toy.submit(2, request("short", 4, 5, at=3))
    assert ran(toy) == ["m2", "m1", "m0"]


def test_a_shorter_job_of_the_running_model_joins_before_longer_ones_of_others() -> None:
    toy = worker(RequestLevel(shortest_job))
    toy.submit(0, request("running", 4, 10, at=1))
    toy.step()
    toy.submit(1, request("other", 4, 10, at=2))
    toy.submit(0, request("shorter", 4, 5, at=3))
    toy.submit(0, request("longer", 4, 15, at=4))
    assert ran(toy) == ["m0", "m1", "m0"]
    assert toy.finished["shorter"] < toy.finished["other"] < toy.finished["longer"]  # type: ignore[index]


@pytest.mark.parametrize("key", [first_come, shortest_job])
def test_who_leaves_before_its_turn_is_forgotten(key: Callable[[ModelView, SequenceView], JobKey]) -> None:
    toy = worker(RequestLevel(key))
    gone = [request(f"gone{i}", 4, 5, at=i) for i in range(4)]
    toy.submit(0, gone[0])
    toy.submit(1, gone[1])
    toy.submit(1, request("stays", 4, 6, at=9))
    toy.step()
    toy.submit(0, gone[2])
    for which, one in ((1, gone[1]), (0, gone[2])):
        toy.cancel(which, one)
    assert ran(toy) == ["m0", "m1"]
    assert set(toy.finished) == {RequestId("gone0"), RequestId("stays")}


def test_the_order_of_turns_is_that_of_first_jobs() -> None:
    toy = worker(RequestLevel(first_come), num_models=4)
    for which, at in ((3, 1.0), (1, 2.0), (0, 3.0)):
        toy.submit(which, request(f"r{which}", 4, 5, at))
    view: WorkerView = toy.view()
    assert toy.policy.turn_order(view, 0.0) == ["m3", "m1", "m0", "m2"]
    toy.step()
    assert toy.policy.turn_order(view, 0.0) == ["m3", "m1", "m0", "m2"]
