import pytest

from benchmarks.loop_share import Seconds, run_of, summary, total

TEXT = """# TYPE kottos_step_seconds histogram
kottos_step_seconds_sum{model="a"} 1.5
kottos_step_seconds_sum{model="b"} 2.5
kottos_step_seconds_sum_of_another 7.0
kottos_loop_cpu_seconds_total 0.25
"""


def test_a_metric_is_summed_over_its_labels() -> None:
    assert total(TEXT, "kottos_step_seconds_sum") == 4.0
    assert total(TEXT, "kottos_loop_cpu_seconds_total") == 0.25
    with pytest.raises(ValueError, match="kottos_gone"):
        total(TEXT, "kottos_gone")


def test_the_share_is_of_what_happened_between_two_scrapes() -> None:
    run = run_of(4, Seconds(1.0, 10.0, 100), Seconds(1.5, 20.0, 600))
    assert (run.share, run.loop_cpu_ms_per_step, run.step_ms) == (0.05, 1.0, 20.0)
    assert "5.0%" in summary([run], [4]) and "missed" in summary([run], [4])
