from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker.scheduling.costs import KnownCosts, StepCosts, StepShape
from gpu_worker.scheduling.deadline import MIN_CHUNK_TOKENS, Deadline, _line
from gpu_worker.scheduling.policy import SequenceView, WorkerView, order_key
from shared.ids import ModelName, RequestId
from tests.unit.gpu_worker.scheduling.toy_worker import (
    COSTS,
    STEP_S,
    ToyModel,
    ToySequence,
    ToyWorker,
    limits,
    model,
    request,
    sequence,
)

NOW_S = 1000.0
PREFILL_S = 0.001  # a token
SLOW_PREFILL = KnownCosts(StepCosts(STEP_S, PREFILL_S, 0.0, 0.0, 0.0), switch_s=20 * STEP_S)
LIMITS = limits(max_step_tokens=256, max_running=64)


def decoding(name: str, due_in_s: float, priority: int = 0) -> ToySequence:
    """On the device, its next token due so much later."""
    return sequence(name, 9, computed=8, at=NOW_S + due_in_s, priority=priority)


def waiting(name: str, due_in_s: float, num_tokens: int = 8, priority: int = 0) -> ToySequence:
    return request(name, num_tokens, 10, NOW_S + due_in_s, priority)


def view(*models: ToyModel, no_place_ahead: str | None = None, beside_steps: bool = False) -> WorkerView:
    bounds = replace(LIMITS, copies_beside_steps=beside_steps)
    return WorkerView(models, bounds, 100, ModelName(no_place_ahead) if no_place_ahead else None)


def first(*models: ToyModel) -> str:
    turn = Deadline().plan(view(*models), NOW_S)
    assert turn is not None
    return turn.model


def test_no_work_is_no_turn() -> None:
    assert Deadline().plan(view(model("a")), NOW_S) is None


def test_with_slack_for_all_resident_models_take_turns() -> None:
    toy = ToyWorker(Deadline(), limits(max_running=8), [64] * 3, num_places=3)
    for i in range(3):
        toy.models[ModelName(f"m{i}")].is_resident = True
        toy.submit(i, request(f"r{i}", 4, 50, at=100.0 + i))
    turns = [toy.step() for _ in range(13)][6:]  # all are decoding
    models = [turn.model for turn in turns if turn]
    assert models == (models[:3] * 3)[:7] and set(models[:3]) == {"m0", "m1", "m2"}


def test_who_is_short_of_time_goes_first_though_it_has_just_run() -> None:
    relaxed, tight = model("relaxed", [decoding("r", 5.0)]), model("tight", [decoding("t", 0.02)], last_step=9)
    assert first(relaxed, tight) == "tight"


def test_of_those_the_one_with_the_least_slack() -> None:
    later, sooner = model("later", [decoding("l", 0.03)]), model("sooner", [decoding("s", 0.025)])
    assert first(later, sooner) == "sooner"


def test_of_those_the_more_important_before_the_one_with_less_slack() -> None:
    urgent = model("urgent", [decoding("u", 0.02)])
    important = model("important", [decoding("i", 0.025, priority=-1)])
    assert first(urgent, important) == "important"


def test_what_its_weights_take_counts() -> None:
    """Both have to begin within the next round, one of them because its weights have to come."""
    resident = model("resident", [decoding("r", 0.1)], last_step=3)
    missing = model("missing", waiting=[waiting("m", COSTS.switch_s + 0.05)], is_resident=False, last_step=1)
    assert Deadline().turn_order(view(resident, missing), NOW_S) == ["missing", "resident"]


def test_a_late_token_lets_those_pass_that_can_be_on_time() -> None:
    late, tight = model("late", [decoding("l", -1.0)]), model("tight", [decoding("t", 1.5 * STEP_S)], last_step=9)
    assert first(late, tight) == "tight"


def test_and_comes_when_they_have_a_step_to_lend() -> None:
    late = model("late", [decoding("l", -1.0)], last_step=9)
    tight = model("tight", [decoding("t", 2.1 * STEP_S)])
    assert first(late, tight) == "late"


def test_a_late_prompt_is_let_in_after_those_that_can_be_on_time() -> None:
    toy = model("m", waiting=[waiting("late", -1.0, 200), waiting("on time", 5.0, 200), waiting("later", 6.0, 200)])
    turn = Deadline().plan(view(toy), NOW_S)
    assert turn is not None and turn.num_tokens == {RequestId("on time"): 200, RequestId("later"): 56}


def test_but_before_them_when_it_is_late_by_the_longest_wait() -> None:
    toy = model("m", waiting=[waiting("late", -61.0, 200), waiting("on time", 5.0, 200)])
    turn = Deadline(max_wait_s=60.0).plan(view(toy), NOW_S)
    assert turn is not None and turn.num_tokens == {RequestId("late"): 200, RequestId("on time"): 56}


def test_more_important_prompts_come_first_even_late() -> None:
    toy = model("m", waiting=[waiting("late", -1.0, 200, priority=-1), waiting("on time", 5.0, 200)])
    turn = Deadline().plan(view(toy), NOW_S)
    assert turn is not None and turn.num_tokens[RequestId("late")] == 56


@pytest.mark.parametrize(
    ("other_due_in_s", "num_tokens"),
    [
        (10.0, 256),
        (2 * STEP_S + 100 * PREFILL_S, 100),  # the other's own step, and the base of this one, come first
        (2 * STEP_S + 2 * PREFILL_S, MIN_CHUNK_TOKENS),
        (1.5 * STEP_S, 256),  # it becomes late whatever we do
    ],
)
def test_a_prompt_takes_no_more_than_others_can_lend(other_due_in_s: float, num_tokens: int) -> None:
    its_step_s = STEP_S + 1000 * PREFILL_S
    prompt = replace(model("prompt"), costs=SLOW_PREFILL)
    prompt.waiting.add(waiting("p", its_step_s + 0.001, 1000))
    other = replace(model("other", [decoding("o", other_due_in_s)]), costs=SLOW_PREFILL)
    turn = Deadline().plan(view(prompt, other), NOW_S)
    assert turn is not None
    assert (turn.model, turn.num_tokens) == ("prompt", {RequestId("p"): pytest.approx(num_tokens, abs=1)})


def test_a_long_prompt_stops_no_stream_for_longer_than_a_chunk() -> None:
    """It can only just be on time, the streams have all the time of the world."""
    toy = ToyWorker(Deadline(), limits(max_running=8), [64] * 3, num_places=3, num_slabs=64)
    for i in range(3):
        toy.models[ModelName(f"m{i}")].is_resident = True
    for i in (1, 2):
        assert toy.submit(i, request(f"stream {i}", 2, 200, at=1e6))
    for _ in range(4):  # both are decoding
        toy.step()
    assert toy.submit(0, request("prompt", 200, 2, at=toy.now_s + 0.1))
    turns = [turn for _ in range(12) if (turn := toy.step())]
    assert [turn.model for turn in turns] == ["m0", "m1", "m2"] * 4
    assert all(turn.num_tokens == {"prompt": 8} for turn in turns[::3])


def test_weights_that_can_come_ahead_are_not_waited_for() -> None:
    busy = model("busy", [decoding("b", 9.0)], last_step=9)
    urgent = model("urgent", waiting=[waiting("u", 0.05)], is_resident=False)
    for no_place_ahead, expected in ((None, "busy"), ("urgent", "urgent")):
        turn = Deadline().plan(view(busy, urgent, no_place_ahead=no_place_ahead, beside_steps=True), NOW_S)
        assert turn is not None and turn.model == expected


@pytest.mark.parametrize("min_turn", [1.0, 3.0])
def test_waiting_for_weights_takes_a_bounded_share_of_the_device(min_turn: float) -> None:
    """Four models that always have work, one place, all of them late: the worst case."""
    toy = ToyWorker(Deadline(min_turn=min_turn), limits(max_running=8), [64] * 4, num_places=1, num_slabs=400)
    for i in range(4):
        assert toy.submit(i, request(f"r{i}", 4, 4000, at=-1000.0))
    for _ in range(3000):
        toy.step()
    assert len(toy.copied_at_step) > 8
    copying_s = len(toy.copied_at_step) * COSTS.switch_s
    assert copying_s / toy.now_s <= 1 / (1 + min_turn) + 0.01


def test_who_came_ahead_is_evicted_last_until_it_has_had_its_stay() -> None:
    policy = Deadline(min_stay=0.5)
    came = model("came", [decoding("c", 90.0)])
    sooner = model("sooner", [decoding("s", 50.0)])
    soonest = model("soonest", waiting=[waiting("w", 1.0)], is_resident=False)
    models = view(came, sooner, soonest, beside_steps=True)
    policy.plan(models, NOW_S)
    assert policy.turn_order(models, NOW_S) == ["sooner", "came", "soonest"]
    sooner.last_step = 1
    policy.plan(models, NOW_S)  # it is its turn now
    policy.plan(models, NOW_S + 0.6 * COSTS.switch_s)
    assert policy.turn_order(models, NOW_S + 0.6 * COSTS.switch_s) == ["sooner", "soonest", "came"]


def test_an_idle_model_does_not_have_to_stay() -> None:
    policy = Deadline()
    models = view(model("idle", last_step=3), model("busy", [decoding("b", 5.0)]), model("used before", last_step=2))
    policy.plan(models, NOW_S)
    assert policy.turn_order(models, NOW_S) == ["busy", "idle", "used before"]


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 3), st.integers(2, 4), st.floats(0.5, 3.0))
def test_no_model_waits_for_longer_than_its_guarantee(num_places: int, num_models: int, max_wait_s: float) -> None:
    """One model's request is hopelessly late, the others' are always just in time, for ever."""
    toy = ToyWorker(
        Deadline(max_wait_s=max_wait_s), limits(max_running=16), [64] * num_models, num_places, num_slabs=400
    )
    late = request("late", 4, 4000, at=-1e6)
    assert toy.submit(0, late)
    for i in range(1, num_models):
        assert toy.submit(i, request(f"on time {i}", 4, 2000, at=1.5 * STEP_S * num_models))
    ran_at_s = [0.0]
    turn_s = (1 + 2.0) * COSTS.switch_s + num_models * 2 * STEP_S
    while toy.now_s < 4 * max_wait_s + num_models * turn_s:
        for i in range(1, num_models):  # a newcomer at each step, due at the very next one
            if len(toy.models[ModelName(f"m{i}")].running) < 3:
                toy.submit(i, request(f"{i} at {toy.now_s}", 2, 3, at=toy.now_s + 2 * STEP_S * num_models))
        turn = toy.step()
        if turn is not None and turn.model == "m0":
            ran_at_s.append(toy.now_s)
    waits_s = [after - before for before, after in pairwise(ran_at_s)]
    assert max(waits_s) <= max_wait_s + num_models * turn_s
    assert toy.now_s - ran_at_s[-1] <= max_wait_s + num_models * turn_s


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-80, 40)), max_size=12))
def test_the_line_lets_in_who_is_late_by_the_longest_wait_then_who_can_be_on_time(
    entries: list[tuple[int, int]],
) -> None:
    toy = model("a", waiting=[waiting(f"r{i}", due_in_s, priority=p) for i, (p, due_in_s) in enumerate(entries)])
    line = [sequence.request_id for sequence in _line(toy, NOW_S, max_wait_s=60.0)]
    in_order = sorted(toy.waiting, key=order_key)
    soon_s = toy.costs.step_s(StepShape(0, 0, 8)) + toy.costs.switch_s

    def place(sequence: SequenceView) -> int:
        is_first_priority, due_in_s = sequence.priority == in_order[0].priority, sequence.first_due_at_s - NOW_S
        return 0 if is_first_priority and due_in_s < -60 else 2 if is_first_priority and due_in_s < soon_s else 1

    assert line == [sequence.request_id for sequence in sorted(in_order, key=place)]
