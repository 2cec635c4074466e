from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker.scheduling.policy import WorkerView
from gpu_worker.scheduling.round_robin import RoundRobin
from shared.ids import RequestId
from tests.unit.gpu_worker.scheduling.toy_worker import ToyWorker, limits, model, request, sequence


def worker(num_models: int, num_places: int, turn_steps: int = 3) -> ToyWorker:
    bounds = limits(max_running=8, turn_steps=turn_steps)
    return ToyWorker(RoundRobin(), bounds, [64] * num_models, num_places, keeps_turn_steps=True)


def ran(toy: ToyWorker, num_steps: int) -> list[str]:
    turns = [toy.step() for _ in range(num_steps)]
    return [turn.model for turn in turns if turn is not None]


def test_no_work_is_no_turn() -> None:
    assert RoundRobin().plan(WorkerView([model("a")], limits(), 0), 0.0) is None


def test_resident_models_alternate_every_step() -> None:
    toy = worker(num_models=3, num_places=3)
    for i in range(3):
        toy.models[f"m{i}"].is_resident = True  # type: ignore[index]
        toy.submit(i, request(f"r{i}", 4, 50))
    assert ran(toy, 7) == ["m0", "m1", "m2", "m0", "m1", "m2", "m0"]
    assert toy.copied_at_step == []


def test_a_copy_buys_turn_steps() -> None:
    toy = worker(num_models=3, num_places=1)
    for i in range(3):
        toy.submit(i, request(f"r{i}", 4, 50))
    assert ran(toy, 10) == ["m0"] * 3 + ["m1"] * 3 + ["m2"] * 3 + ["m0"]


def test_resident_models_alternate_until_the_next_copy() -> None:
    toy = worker(num_models=3, num_places=2, turn_steps=4)
    for i in range(3):
        toy.submit(i, request(f"r{i}", 4, 50))
    assert ran(toy, 12) == ["m0"] * 4 + ["m1", "m0", "m1", "m0"] + ["m2", "m1", "m2", "m1"]
    assert toy.copied_at_step == [1, 5, 9]


def test_turn_ends_early_when_its_work_does() -> None:
    toy = worker(num_models=2, num_places=1, turn_steps=100)
    toy.submit(0, request("short", 4, 2))
    toy.submit(1, request("long", 4, 50))
    assert ran(toy, 4) == ["m0", "m0", "m1", "m1"]


def test_evicts_what_runs_last_in_the_cycle_and_idle_models_before_it() -> None:
    models = [
        model("ran just now", [sequence("a", 2, 1)], last_step=9),
        model("ran before", [sequence("b", 2, 1)], last_step=8),
        model("idle", last_step=7),
        model("idle for long", last_step=2),
        model("new", waiting=[sequence("c", 2)]),
    ]
    order = RoundRobin().turn_order(WorkerView(models, limits(), 0), 0.0)
    assert order == ["new", "ran before", "ran just now", "idle", "idle for long"]


arrivals = st.lists(
    st.tuples(
        st.integers(0, 3),  # model
        st.integers(0, 30),  # step of arrival
        st.integers(1, 60),  # prompt
        st.integers(1, 30),  # output
        st.integers(-1, 1),  # priority
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=150, deadline=None)
@given(arrivals, st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.integers(1, 16))
def test_everything_finishes_and_no_model_waits_beyond_its_turn(
    requests: list[tuple[int, int, int, int, int]],
    num_places: int,
    max_running: int,
    turn_steps: int,
    max_step_tokens: int,
) -> None:
    """Scarce memory, so that sequences are preempted; ToyWorker checks every step and every copy."""
    bounds = limits(max_step_tokens, max_running, turn_steps)
    toy = ToyWorker(RoundRobin(), bounds, [64, 192, 256, 512], num_places, keeps_turn_steps=True)
    todo = sorted((step, i) for i, (_, step, *_rest) in enumerate(requests))
    submitted: set[str] = set()
    waited: dict[str, int] = {}
    bound = len(toy.models) * max(turn_steps, len(toy.models))
    for tick in range(4000):
        while todo and todo[0][0] <= tick:
            _, i = todo.pop(0)
            which, at, prompt, output, priority = requests[i]
            one = request(f"r{i}", prompt, output, at)
            one.priority = priority
            toy.submit(which, one)
            if one in toy.models[f"m{which}"].waiting:  # type: ignore[index]
                submitted.add(f"r{i}")
        with_kv = [m.name for m in toy.models.values() if m.running]
        turn = toy.step()
        for name in toy.models:
            waited[name] = waited.get(name, 0) + 1 if name in with_kv and (turn and turn.model != name) else 0
        assert max(waited.values()) <= bound
        if turn is None and not todo:
            break
    assert set(toy.finished) == submitted
    assert toy.pool.used_bytes == 0


@settings(deadline=None)
@given(st.integers(20, 80))
def test_a_great_need_is_not_starved_by_a_stream_of_small_ones(num_small: int) -> None:
    toy = ToyWorker(RoundRobin(), limits(max_running=100), [64, 512], num_places=2)
    for i in range(20):
        toy.submit(0, request(f"early{i}", 16, 4 + i, at=0))
    toy.step()
    toy.submit(1, request("big", 44, 1, at=1))  # all six slabs
    for i in range(num_small):
        toy.submit(0, request(f"late{i}", 16, 20, at=2 + i))
        toy.step()
        toy.step()
    while toy.step() is not None:
        pass
    assert len(toy.finished) == num_small + 21
    assert toy.finished[RequestId("big")] < min(step for name, step in toy.finished.items() if name.startswith("late"))
