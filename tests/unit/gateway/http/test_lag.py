from hypothesis import given
from hypothesis import strategies as st

from gateway.http.lag import Lag


def test_whoever_reads_all_is_never_behind() -> None:
    lag = Lag()
    assert [lag.look(100 * second, 0, second) for second in range(5)] == [0.0] * 5


def test_a_reader_that_stopped_is_behind_since_then() -> None:
    lag = Lag()
    assert lag.look(100, 40, 1.0) == 0.0
    assert lag.look(100, 40, 3.0) == 2.0
    assert lag.look(900, 840, 5.0) == 4.0  # whatever is written since


def test_what_was_read_meanwhile_begins_anew() -> None:
    lag = Lag()
    lag.look(100, 40, 1.0)
    assert lag.look(200, 101, 3.0) == 2.0  # one of the hundred is still there
    assert lag.look(200, 100, 4.0) == 0.0
    assert lag.look(200, 100, 9.0) == 5.0
    assert lag.look(200, 0, 9.5) == 0.0
    assert lag.look(300, 100, 9.9) == 0.0


def test_a_reader_that_is_always_three_seconds_behind_is_found_at_two() -> None:
    """It reads as fast as is written: ten bytes a second."""
    lag = Lag()
    behind_s = [lag.look(10 * second, 30, float(second)) for second in range(3, 10)]
    assert max(behind_s[:3]) == 2.0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0.01, 2.0)), min_size=1, max_size=60))
def test_it_says_no_more_than_what_the_oldest_byte_has_waited(steps: list[tuple[int, int, float]]) -> None:
    """Each step: some bytes are written, some of those that wait are read, then time passes and somebody looks."""
    lag = Lag()
    written_at_s: list[float] = []  # of each unsent byte
    num_written, now_s = 0, 0.0
    for num_new, num_read, pause_s in steps:
        written_at_s = (written_at_s + [now_s] * num_new)[num_read:]
        num_written += num_new
        now_s += pause_s
        behind_s = lag.look(num_written, len(written_at_s), now_s)
        assert 0.0 <= behind_s <= (now_s - written_at_s[0] if written_at_s else 0.0) + 1e-9
