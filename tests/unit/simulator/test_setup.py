import pytest

from gpu_worker.scheduling.costs import StepCosts
from simulator.setup import Setup


def test_at_other_costs_nothing_but_steps_takes_another_time() -> None:
    setup = Setup(StepCosts(base_s=4e-3, prefill_s=30e-6, pair_s=0.0, decode_s=60e-6, context_s=0.2e-6), slo_scale=0.5)
    slower = StepCosts(base_s=9e-3, prefill_s=50e-6, pair_s=0.0, decode_s=90e-6, context_s=0.3e-6)
    changed = setup.at_costs(slower, loop_s=1e-3)
    assert changed.costs == slower and changed.loop_s == 1e-3
    assert changed.link_bytes_per_s == pytest.approx(setup.link_bytes_per_s)
    assert (changed.slo.ttft_s, changed.slo.tbt_s) == pytest.approx((setup.slo.ttft_s, setup.slo.tbt_s))
