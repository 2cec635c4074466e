from argparse import Namespace
from dataclasses import replace

import pytest

from benchmarks.plan import POLICIES, PlannedWorker, Run, measure, summary
from shared.config import PolicyName

RUN = Run("request", 1, 1000, 200.0, 40.0, 299.0, 999.0, 5.0, 9.0)


@pytest.mark.parametrize("policy", POLICIES)
def test_as_many_run_and_wait_all_the_time(policy: PolicyName) -> None:
    worker = PlannedWorker(policy, num_models=3, max_running=4, seed=1)
    for _ in range(12):
        worker.enter()
    for _ in range(400):  # some hundred sequences end
        worker.step()
        assert worker.num_running <= 4
        assert worker.num_running + worker.num_waiting == 12
    assert len(worker.plan_us) == len(worker.order_us) == 400
    assert 0 < max(worker.num_planned) <= 4


def test_only_measured_steps_count() -> None:
    run = measure("round-robin", 3, 5, Namespace(models=2, running=3, warm_up=30, steps=10))
    assert (run.num_tenants, run.num_waiting) == (3, 5) and 1 <= run.mean_planned <= run.mean_running <= 3
    assert 0 < run.plan_median_us <= run.plan_p99_us


def test_both_goals_have_to_be_met() -> None:
    lines = summary([RUN, replace(RUN, plan_median_us=301.0), replace(RUN, plan_p99_us=1001.0)]).splitlines()
    assert [line.split("|")[-2].strip() for line in lines[2:]] == ["met", "missed", "missed"]
