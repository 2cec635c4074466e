from dataclasses import replace

import pytest

from gpu_worker.scheduling.costs import StepCosts
from simulator.goodput import GOAL, bisect_rate, find_goodput
from simulator.policies import NAMES, served_models, simulate_policy
from simulator.run import Window
from simulator.setup import Setup

SETUP = Setup(StepCosts(4e-3, 30e-6, 0.0, 60e-6, 0.2e-6), num_models=4, num_places=2)


def test_bisection_finds_where_the_share_falls_below_the_goal() -> None:
    for knee in (0.4, 7.0, 20.0, 333.0):
        found = bisect_rate(lambda rate, knee=knee: 1.0 if rate <= knee else 0.5, 20.0, 0.01)  # type: ignore[misc]
        assert knee / 1.01 <= found.requests_per_s <= knee
        assert [rate for rate, _ in found.points] == sorted(rate for rate, _ in found.points)


def test_where_no_rate_is_met_goodput_is_nothing() -> None:
    assert bisect_rate(lambda rate: 0.0, 20.0, 0.01).requests_per_s == 0.0


def test_a_stricter_service_level_means_less_goodput() -> None:
    window = Window(warm_up_s=2.0, measured_s=8.0)
    usual, strict = (
        find_goodput("round-robin", setup, window, [0], precision=0.2).requests_per_s
        for setup in (SETUP, replace(SETUP, slo_scale=0.3))
    )
    assert 0 < strict < usual


@pytest.mark.parametrize("name", NAMES)
def test_at_a_light_load_what_is_served_is_on_time_and_equal_seeds_give_equal_runs(name: str) -> None:
    window = Window(warm_up_s=1.0, measured_s=5.0)
    outcomes = [simulate_policy(name, SETUP, 2.0, window, seed) for seed in (3, 3, 4)]
    served = {model.name for model in served_models(name, SETUP)}
    for outcome in outcomes:
        assert all((share >= GOAL) == (model in served) for model, share in outcome.attainment.by_model.items())
    assert outcomes[0] == outcomes[1] != outcomes[2]


def test_the_window_counts_only_its_requests() -> None:
    window = Window(warm_up_s=2.0, measured_s=5.0)
    requests = SETUP.workload(20.0).requests(window.total_s(SETUP.slo.ttft_s), 0)
    outcome = simulate_policy("round-robin", SETUP, 20.0, window, 0)
    assert outcome.attainment.num_requests == sum(2.0 <= request.arrives_at_s < 7.0 for request in requests)
    assert requests[-1].arrives_at_s > 7.0
