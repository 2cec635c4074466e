import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.slo import Slo


@pytest.mark.parametrize(
    ("age_s", "num"),
    [(0.0, 0), (2.0, 0), (2.001, 1), (2.5, 1), (2.501, 2), (3.0, 2), (4.75, 6)],
)
def test_a_token_is_overdue_once_its_time_is_past(age_s: float, num: int) -> None:
    slo = Slo(ttft_s=2.0, tbt_s=0.5)
    assert slo.num_overdue(age_s) == num
    assert [slo.due_s(k) for k in range(3)] == [2.0, 2.5, 3.0]


@given(st.floats(1e-6, 86_400), st.floats(1e-6, 3_600), st.integers(0, 10_000), st.floats(-1e-3, 1e-3))
def test_overdue_agrees_with_due_to_the_last_bit(ttft_s: float, tbt_s: float, index: int, offset_s: float) -> None:
    slo = Slo(ttft_s, tbt_s)
    for age_s in (slo.due_s(index), slo.due_s(index) + offset_s):
        num = slo.num_overdue(age_s)
        assert slo.due_s(num) >= age_s
        assert num == 0 or slo.due_s(num - 1) < age_s
