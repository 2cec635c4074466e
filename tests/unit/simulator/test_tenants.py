from dataclasses import replace

import pytest

from gpu_worker.scheduling.select import make_policy
from shared.config import PolicyName
from simulator.run import Window
from simulator.setup import DEFAULT_COSTS, Setup
from simulator.tenants import merged, ttfts_s
from simulator.workload import Workload

SETUP = Setup(DEFAULT_COSTS, num_models=1, num_places=1)
WINDOW = Window(warm_up_s=4.0, measured_s=16.0)
MODEST = replace(SETUP.workload(15.0), tenant="modest")  # of some 100 requests a second that the worker can serve
FLOOD = replace(SETUP.workload(400.0), tenant="flood")
BOTH = replace(SETUP.workload(415.0), tenant="both")


def ttft_p95_s(policy: PolicyName, tenant: str, *workloads: Workload) -> float:
    found = ttfts_s(SETUP.worker(SETUP.models()), make_policy(policy), workloads, WINDOW, seed=0)[tenant]
    return found[int(0.95 * len(found))]


@pytest.mark.parametrize("policy", ["deadline", "round-robin"])
def test_who_shares_a_model_with_a_flood_waits_at_most_twice_as_long(policy: PolicyName) -> None:
    alone_s = ttft_p95_s(policy, "modest", MODEST)
    assert ttft_p95_s(policy, "modest", MODEST, FLOOD) <= 2 * alone_s
    assert ttft_p95_s(policy, "both", BOTH) > 20 * alone_s  # if they were one tenant


def test_a_tenants_requests_are_the_same_whoever_else_comes() -> None:
    both = merged([MODEST, FLOOD], 5.0, seed=3)
    assert [request for request in both if request.tenant == "modest"] == MODEST.requests(5.0, seed=3)
    assert [request.arrives_at_s for request in both] == sorted(request.arrives_at_s for request in both)
    assert len({request.request_id for request in both}) == len(both)
