from benchmarks.feed import Cost, Run, costs, summary


def test_a_viewers_cost_is_what_its_streams_cost_more_than_without() -> None:
    without = Run(0, 10.0, gateway_cpu_s=1.0, loop_cpu_s=0.5, tokens_per_s=100.0, viewer_bytes_per_s=0.0)
    runs = [without, Run(4, 12.5, 1.25, 0.625, 80.0, 2048.0), without, Run(4, 12.5, 1.25, 0.625, 80.0, 2048.0)]
    assert costs(runs) == [Cost(4, 0.005, 0.01, 0.8, 2048.0)]


def test_the_table_says_whether_the_goal_is_met() -> None:
    cheap, dear = summary([Cost(1, 0.005, 0.01, 1.0, 0.0)]), summary([Cost(1, 0.02, 0.01, 1.0, 0.0)])
    assert "0.50%" in cheap and "(met)" in cheap and "(missed)" in dear
