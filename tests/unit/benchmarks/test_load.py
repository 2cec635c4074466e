import pytest

from benchmarks.load import Stream, output_rate, percentile

FIRST = Stream(started_at_s=10.0, token_at_s=[11.0, 11.5, 12.0], num_chunks=3)
SECOND = Stream(started_at_s=10.5, token_at_s=[13.5, 14.0, 14.0], num_chunks=2)


def test_a_stream_has_the_times_of_its_reader() -> None:
    assert (FIRST.ttft_s, SECOND.ttft_s) == (1.0, 3.0)
    assert SECOND.gaps_s == [0.5, 0.0]
    assert FIRST.decode_rate == 2.0  # the first token excluded


def test_the_output_rate_is_over_the_time_of_all_streams() -> None:
    assert output_rate([FIRST, SECOND]) == 6 / 4.0


@pytest.mark.parametrize(("percent", "value"), [(0, 1.0), (25, 1.0), (26, 2.0), (50, 2.0), (99, 4.0), (100, 4.0)])
def test_a_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == value
