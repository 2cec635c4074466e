"""What every policy promises, whatever arrives."""

from dataclasses import dataclass
from typing import Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker.scheduling.deadline import MIN_TURN, Deadline
from gpu_worker.scheduling.policy import Policy
from gpu_worker.scheduling.select import make_policy
from gpu_worker.scheduling.weighted_round import MAX_QUOTA_S
from shared.config import PolicyName
from tests.unit.gpu_worker.scheduling.toy_worker import COSTS, STEP_S, ToySequence, ToyWorker, limits, request

POLICIES: Final = [name for name in get_args(PolicyName) if name not in ("static", "dedicated")]  # are round robin
FAIR: Final = [name for name in POLICIES if name != "request-sjf"]  # which lets long jobs starve
NUM_MODELS: Final = 4
MAX_WAIT_S: Final = 1.0  # of `deadline`, which lets those pass that can be on time


def fresh(policy: PolicyName) -> Policy:
    return Deadline(max_wait_s=MAX_WAIT_S) if policy == "deadline" else make_policy(policy)


@dataclass(frozen=True)
class Arrival:
    model: int
    at_step: int
    num_prompt: int
    num_output: int
    priority: int
    cancel_after: int | None  # steps
    tenant: str


arrivals = st.lists(
    st.builds(
        Arrival,
        st.integers(0, NUM_MODELS - 1),
        st.integers(0, 30),
        st.integers(1, 60),
        st.integers(1, 30),
        st.integers(-1, 1),
        st.one_of(st.none(), st.integers(0, 40)),
        st.sampled_from("abc"),
    ),
    min_size=1,
    max_size=24,
)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=80, deadline=None)
@given(
    arrivals=arrivals,
    num_places=st.integers(1, NUM_MODELS),
    max_running=st.integers(1, 6),
    turn_steps=st.integers(1, 5),
    max_step_tokens=st.integers(1, 16),
    num_copy_steps=st.integers(0, 4),
    num_host_places=st.one_of(st.none(), st.integers(1, NUM_MODELS)),
)
def test_nothing_is_lost_or_run_twice_and_the_device_is_never_idle(
    policy: PolicyName,
    arrivals: list[Arrival],
    num_places: int,
    max_running: int,
    turn_steps: int,
    max_step_tokens: int,
    num_copy_steps: int,
    num_host_places: int | None,
) -> None:
    """Memory is scarce: sequences are preempted, and weights come from disk. ToyWorker checks each step against the
    limits, and that the worker is idle only without sequences."""
    bounds = limits(max_step_tokens, max_running, turn_steps)
    toy = ToyWorker(
        make_policy(policy),
        bounds,
        [64, 192, 256, 512],
        num_places,
        num_host_places=num_host_places,
        num_copy_steps=num_copy_steps,
    )
    ones = [
        request(f"r{i}", a.num_prompt, a.num_output, a.at_step, a.priority, a.tenant) for i, a in enumerate(arrivals)
    ]
    admitted: dict[str, ToySequence] = {}
    is_over = False
    for step in range(6000):
        for one, arrival in zip(ones, arrivals, strict=True):
            if arrival.at_step == step and toy.submit(arrival.model, one):
                admitted[one.request_id] = one
            is_there = one.request_id in admitted and one.request_id not in toy.finished
            if arrival.cancel_after is not None and step == arrival.at_step + arrival.cancel_after and is_there:
                toy.cancel(arrival.model, one)
                del admitted[one.request_id]
        is_over = toy.step() is None and step > 70
        if is_over:
            break
    assert is_over
    assert toy.finished.keys() == admitted.keys()
    assert all(one.num_tokens == one.end_tokens for one in admitted.values())
    assert toy.pool.used_bytes == 0


@pytest.mark.parametrize("policy", FAIR)
@settings(max_examples=40, deadline=None)
@given(
    before=st.lists(st.tuples(st.integers(0, NUM_MODELS - 1), st.integers(1, 20), st.integers(1, 12)), max_size=8),
    model=st.integers(0, NUM_MODELS - 1),
    later=st.lists(st.tuples(st.integers(0, NUM_MODELS - 1), st.integers(1, 20)), min_size=1, max_size=4),
    max_running=st.integers(1, 6),
    num_places=st.integers(1, NUM_MODELS),
    num_host_places=st.one_of(st.none(), st.integers(1, NUM_MODELS)),
)
def test_a_stream_of_later_requests_keeps_nobody_waiting(
    policy: PolicyName,
    before: list[tuple[int, int, int]],
    model: int,
    later: list[tuple[int, int]],
    max_running: int,
    num_places: int,
    num_host_places: int | None,
) -> None:
    """One request arrives in each step. The first step of the watched one comes within a bound that does not depend on
    how many follow: those before it take their turns, up to 8 join each group of prompts before it, a turn that has
    begun ends, and who may let others pass waits no longer than that."""
    sizes = [64] * NUM_MODELS
    bounds = limits(8, max_running)
    toy = ToyWorker(fresh(policy), bounds, sizes, num_places, num_slabs=64, num_host_places=num_host_places)
    for i, (which, num_prompt, num_output) in enumerate(before):
        toy.submit(which, request(f"before{i}", num_prompt, num_output, at=i - 100))
    watched = request("watched", 10, 2, at=0)
    toy.submit(model, watched)
    turn_steps = max(toy.limits.turn_steps, round(MIN_TURN * COSTS.switch_s / STEP_S))
    cycle = NUM_MODELS * max(NUM_MODELS, turn_steps)
    own_steps = sum(-(-num_prompt // 8) + num_output for _, num_prompt, num_output in before)
    bound = cycle * (own_steps + 2) + 8 * 3 * (len(before) + 1) + round((MAX_QUOTA_S + MAX_WAIT_S) / STEP_S)
    for step in range(bound):
        which, num_prompt = later[step % len(later)]
        toy.submit(which, request(f"later{step}", num_prompt, 8, at=step + 1))
        toy.step()
        if watched.num_computed_tokens:
            return
    pytest.fail(f"no step within {bound}")
