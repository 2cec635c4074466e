"""A policy forgets a model that is served no more: when its last sequence has left, whatever the policy remembers."""

import pytest

from gpu_worker.scheduling.select import make_policy
from shared.config import PolicyName
from tests.unit.gpu_worker.scheduling.test_policies import POLICIES
from tests.unit.gpu_worker.scheduling.toy_worker import ToyWorker, limits, request


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("num_steps", [0, 1, 2, 3])
def test_others_go_on_when_a_model_with_the_turn_is_gone(policy: PolicyName, num_steps: int) -> None:
    toy = ToyWorker(make_policy(policy), limits(), [64] * 2, num_places=1, num_slabs=64)
    leaving, staying = request("leaving", 3, 40, at=0.0), request("staying", 3, 4, at=1.0)
    assert toy.submit(0, leaving) and toy.submit(1, staying)
    for _ in range(num_steps):
        toy.step()
    gone = next(iter(toy.models))
    toy.cancel(0, leaving)
    del toy.models[gone]
    turns = []
    while (turn := toy.step()) is not None:
        turns.append(turn.model)
    assert turns and set(turns) == set(toy.models)
    assert staying.num_output_tokens == 4
