import pytest

from gpu_worker.scheduling.aegaeon import Aegaeon, AegaeonDecode, AegaeonPrefill
from gpu_worker.scheduling.aegaeon_decode import DecodeRounds
from gpu_worker.scheduling.aegaeon_prefill import MAX_GROUP_SIZE, PrefillQueue
from gpu_worker.scheduling.costs import KnownCosts, StepCosts
from gpu_worker.scheduling.look import look_at
from gpu_worker.scheduling.policy import Policy, Turn, WorkerView
from shared.ids import ModelName
from tests.unit.gpu_worker.scheduling.toy_worker import ToyWorker, limits, model, request, sequence

A, B = ModelName("a"), ModelName("b")
STEP_S = 0.025
SWITCH_S = 1.0


def worker(policy: Policy, num_models: int = 3, num_places: int = 1, max_running: int = 100) -> ToyWorker:
    """As in the worked example: with d = 0.1 every batch is ahead by n = 4, three models switch in 3 s."""
    toy = ToyWorker(policy, limits(1000, max_running), [64] * num_models, num_places, num_slabs=256)
    for toy_model in toy.models.values():
        toy_model.costs = KnownCosts(StepCosts(STEP_S, 0.0, 0.0, 0.0, 0.0), SWITCH_S)
    return toy


def groups(queue: PrefillQueue) -> list[tuple[str, list[str]]]:
    return [(group.model, [str(key) for key in group.sequences]) for group in queue.first(100)]


def turns(toy: ToyWorker, num_steps: int) -> list[tuple[str, int]]:
    """Models in the order in which they had the device, and for how many steps."""
    had: list[tuple[str, int]] = []
    for _ in range(num_steps):
        if (turn := toy.step()) is None:
            break
        name, num = had.pop() if had and had[-1][0] == turn.model else (turn.model, 0)
        had.append((name, num + 1))
    return had


def test_requests_join_the_first_group_of_their_model_that_is_not_full() -> None:
    queue = PrefillQueue()
    for i in range(MAX_GROUP_SIZE + 1):
        queue.add(A, sequence(f"a{i}", 3))
        if i < 2:
            queue.add(B, sequence(f"b{i}", 3))
    assert groups(queue) == [("a", [f"a{i}" for i in range(8)]), ("b", ["b0", "b1"]), ("a", ["a8"])]


def test_a_group_counts_who_joined_over_its_life() -> None:
    queue = PrefillQueue()
    members = [sequence(f"a{i}", 3) for i in range(MAX_GROUP_SIZE)]
    for one in members:
        queue.add(A, one)
    for one in members[:7]:
        queue.remove(one)
    queue.add(A, sequence("late", 3))
    assert groups(queue) == [("a", ["a7"]), ("a", ["late"])]


def test_an_ended_group_is_not_joined() -> None:
    queue = PrefillQueue()
    first = sequence("first", 3)
    queue.add(A, first)
    queue.remove(first)
    queue.add(B, sequence("b", 3))
    queue.add(A, sequence("second", 3))
    assert groups(queue) == [("b", ["b"]), ("a", ["second"])]


def test_prompts_come_in_groups_before_anybody_decodes() -> None:
    toy = worker(Aegaeon())
    for i in range(10):
        toy.submit(i % 2, request(f"r{i}", 4, 9, at=i))
    first, second = toy.step(), toy.step()
    assert first is not None and list(first.num_tokens) == ["r0", "r2", "r4", "r6", "r8"]
    assert second is not None and list(second.num_tokens) == ["r1", "r3", "r5", "r7", "r9"]
    third = toy.step()
    assert third is not None and set(third.num_tokens.values()) == {1}


def test_turns_of_a_round_have_the_published_quotas() -> None:
    """4 s each, which is 160 steps, besides the switch; who comes meanwhile waits for the end of the turn."""
    toy = worker(Aegaeon(), num_models=4)
    for i in range(3):
        toy.submit(i, request(f"r{i}", 1, 900, at=i))
    assert turns(toy, 3) == [("m0", 1), ("m1", 1), ("m2", 1)]
    started_at_s = toy.now_s
    had = turns(toy, 320)
    assert isinstance(toy.policy, Aegaeon) and toy.policy.alpha == pytest.approx(0.9375)
    assert [name for name, _ in had] == ["m0", "m1"]
    assert toy.now_s == pytest.approx(started_at_s + 2 * (4.0 + SWITCH_S), abs=2 * STEP_S)
    assert had[0][1] == pytest.approx(160, abs=1)
    turns(toy, 50)
    toy.submit(3, request("new", 1, 900, at=3))
    had = turns(toy, 290)
    assert [name for name, _ in had][:3] == ["m2", "m3", "m0"]  # prefill, then the next round
    assert had[0][1] == pytest.approx(110, abs=2) and had[1][1] == 1


def test_a_prompt_takes_the_next_turn_and_the_round_goes_on() -> None:
    toy = worker(Aegaeon())
    for i in range(3):
        toy.submit(i, request(f"r{i}", 1, 900, at=i))
    turns(toy, 50)
    toy.submit(0, request("new", 1, 900, at=3))
    had = turns(toy, 500)
    assert [name for name, _ in had] == ["m0", "m1", "m2", "m0"]
    assert had[0][1] == pytest.approx(160 - 47 + 1, abs=2)  # the prefill comes right after m0's turn
    assert had[1][1] == pytest.approx(160, abs=1)


def test_a_sequence_joins_the_first_batch_with_room_and_batches_of_a_model_are_neighbours() -> None:
    """Room for 20 tokens a model."""
    rounds = DecodeRounds()
    few = {name: model(name, num_free_blocks=5) for name in "ab"}
    for i, (name, length) in enumerate((("a", 10), ("b", 10), ("a", 10), ("a", 4))):
        one = sequence(f"r{i}", length, length - 1, at=i)
        few[name].waiting.add(one)
        rounds.enter(ModelName(name), one)
    rounds.next_turn(look_at(WorkerView(few.values(), limits(), 0), 0.0))
    batches = [(batch.model, [str(key) for key in batch.sequences]) for batch in rounds.batches]
    assert batches == [("a", ["r0", "r3"]), ("a", ["r2"]), ("b", ["r1"])]


def test_a_prefill_worker_does_not_decode_and_a_decode_worker_goes_on() -> None:
    prefill, decode = worker(AegaeonPrefill()), worker(AegaeonDecode())
    ones = [request(f"r{i}", 6, 5, at=i) for i in range(3)]
    for i, one in enumerate(ones):
        prefill.submit(i, one)
    planned = [prefill.step() for _ in range(3)]
    assert [turn and dict(turn.num_tokens) for turn in planned] == [{"r0": 6}, {"r1": 6}, {"r2": 6}]
    assert prefill.policy.plan(prefill.view(), prefill.now_s) is None
    for i, one in enumerate(ones):
        prefill.cancel(i, one)
        decode.submit(i, request(str(one.request_id), 7, 4))
    while decode.step() is not None:
        pass
    assert set(decode.finished) == {"r0", "r1", "r2"}


def test_a_preempted_sequence_comes_back_before_later_prompts() -> None:
    """One model's sequence waits for room that later prompts of another would take first, again and again."""
    policy = Aegaeon()
    preempted, newcomer = sequence("preempted", 5, at=1), sequence("newcomer", 4, at=2)
    full, other = model("m", waiting=[preempted]), model("other")
    policy.enter(full.name, preempted, 0.0)
    view = WorkerView([full, other], limits(), 0)
    assert policy.plan(view, 0.0) == Turn(full.name, {preempted.request_id: 5})
    preempted.num_tokens += 1  # it got its first token, and lost its place at once
    policy.enter(other.name, newcomer, 0.0)
    other.waiting.add(newcomer)
    assert policy.plan(view, 0.0) == Turn(full.name, {preempted.request_id: 6})
    full.waiting.remove(preempted)
    preempted.num_computed_tokens = 5
    full.running.append(preempted)
    assert policy.plan(view, 100.0) == Turn(other.name, {newcomer.request_id: 4})


def test_another_attempt_is_prefilled_again() -> None:
    policy = Aegaeon()
    again, one = sequence("again", 8, at=1), model("m")
    again.num_prompt_tokens = 5  # of which an earlier attempt said three tokens more
    policy.enter(one.name, again, 0.0)
    one.waiting.add(again)
    view = WorkerView([one], limits(max_step_tokens=6), 0)
    assert policy.plan(view, 0.0) == Turn(one.name, {again.request_id: 6})
    one.waiting.remove(again)
    one.running.append(again)
    again.num_computed_tokens = 6
    assert policy.plan(view, 0.0) == Turn(one.name, {again.request_id: 2})
    assert not policy.alpha, "nobody decodes yet"


def test_prompts_wait_while_room_gathers_for_who_is_due_first() -> None:
    policy = Aegaeon()
    later, earlier = sequence("enters first", 8, at=2), sequence("is due first", 12, at=1)
    models = [model("a", waiting=[later], num_free_blocks=4), model("b", waiting=[earlier], num_free_blocks=2)]
    policy.enter(models[0].name, later, 0.0)
    policy.enter(models[1].name, earlier, 0.0)
    view = WorkerView(models, limits(), 0)
    assert policy.plan(view, 0.0) is None  # room gathers for who is due first
    roomy = model("b", waiting=[earlier], num_free_blocks=3)
    assert policy.plan(WorkerView([models[0], roomy], limits(), 0), 0.0) == Turn(models[0].name, {later.request_id: 8})


def test_prompts_whose_weights_are_on_disk_are_next_in_the_order_of_turns() -> None:
    policy = Aegaeon()
    running, prompt = sequence("running", 5, at=1), sequence("prompt", 4, at=2)
    there, missing = model("there", running=[running]), model("missing", waiting=[prompt], is_at_hand=False)
    policy.enter(there.name, running, 0.0)
    view = WorkerView([there, missing], limits(), 0)
    policy.plan(view, 0.0)
    running.num_computed_tokens, running.num_tokens = 5, 6
    policy.enter(missing.name, prompt, 0.0)
    decode = Turn(there.name, {running.request_id: 1})
    assert policy.plan(view, 1.0) == decode
    assert policy.turn_order(view, 1.0) == ["missing", "there"]
    missing.is_at_hand = True
    assert policy.plan(view, 1.0) == decode, "the turn that has begun ends first"
    assert policy.plan(view, 9.0) == Turn(missing.name, {prompt.request_id: 4})


def test_a_batch_whose_weights_are_on_disk_gets_its_turn_when_they_come() -> None:
    policy = AegaeonDecode()
    models = [model(name, running=[sequence(name, 9, 8)]) for name in ("first", "missing", "last")]
    models[1].is_at_hand = False
    for one in models:
        policy.enter(one.name, one.running[0], 0.0)
    view = WorkerView(models, limits(), 0)
    planned = [policy.plan(view, now_s) for now_s in (0.0, 10.0, 20.0)]
    assert [turn and turn.model for turn in planned] == ["first", "last", "first"]
    assert policy.turn_order(view, 20.0)[:2] == ["missing", "first"]
    models[1].is_at_hand = True
    planned = [policy.plan(view, now_s) for now_s in (20.0, 30.0, 40.0, 50.0)]
    assert [turn and turn.model for turn in planned] == ["first", "missing", "missing", "last"]
