import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.scheduling.weighted_round import MAX_QUOTA_S, Pace, alpha, predicted_attainment, quotas_s

EQUAL = [Pace(tbt_s=0.1, step_s=0.025)] * 3


def test_the_worked_example() -> None:
    """Three batches, three seconds of switches: a round of 15 s, in which each batch produces 160 tokens."""
    assert alpha(EQUAL, 3.0) == pytest.approx(0.9375)
    quotas = quotas_s(EQUAL, 3.0, 0.9375)
    assert quotas == pytest.approx((4.0, 4.0, 4.0))
    round_s = sum(quotas) + 3.0
    assert round_s == pytest.approx(15.0)
    assert quotas[0] / 0.025 == pytest.approx(160)
    assert round_s / 160 == pytest.approx(0.9375 * 0.1)  # a token's share of the round is alpha times its due time


def test_the_worked_example_with_alpha_given() -> None:
    quotas = quotas_s(EQUAL, 3.0, 1.0)
    assert quotas == pytest.approx((3.0, 3.0, 3.0))
    assert sum(quotas) + 3.0 == pytest.approx(12.0)
    assert quotas[0] / 0.025 == pytest.approx(120)


@pytest.mark.parametrize("switches_s", [0.0, 1e-12])
def test_without_switches_quotas_are_the_limit(switches_s: float) -> None:
    paces = [Pace(0.1, 0.05), Pace(0.1, 0.025), Pace(0.2, 0.025)]  # n = 2, 4, 8; they need 7/8 of the time
    assert alpha(paces, switches_s) == pytest.approx(0.875)
    assert quotas_s(paces, switches_s, alpha(paces, switches_s)) == pytest.approx((4.0, 2.0, 1.0))


def test_without_switches_and_load_quotas_are_the_limit_too() -> None:
    paces = [Pace(0.1, 0.01), Pace(0.1, 0.005)]
    assert alpha(paces, 0.0) == 0.5
    assert quotas_s(paces, 0.0, 0.5) == pytest.approx((4.0, 2.0))


def test_an_alpha_that_leaves_nothing_for_switches() -> None:
    assert quotas_s(EQUAL, 3.0, 0.75) == quotas_s(EQUAL, 3.0, 0.5) == (MAX_QUOTA_S,) * 3


def test_light_load_shortens_the_round_until_alpha_is_a_half() -> None:
    assert alpha([Pace(0.1, 0.01)], 0.2) == 0.5
    assert quotas_s([Pace(0.1, 0.01)], 0.2, 0.5) == pytest.approx((0.05,))


def test_a_turn_is_never_less_than_a_step() -> None:
    assert quotas_s([Pace(10.0, 0.5), Pace(0.1, 6.0)], 1.0, 100.0) == (0.5, 6.0)


def test_predicted_attainment() -> None:
    assert predicted_attainment(0.5) == predicted_attainment(1.0) == 1.0
    assert predicted_attainment(1.25) == pytest.approx(0.8)


seconds = st.floats(1e-4, 10.0)


@given(st.lists(st.builds(Pace, seconds, seconds), min_size=1, max_size=16), st.floats(0.0, 100.0))
def test_every_token_is_worth_alpha_of_its_due_time(paces: list[Pace], switches_s: float) -> None:
    """Where no bound cuts a quota, a round takes alpha times what its tokens are due in, for every batch alike."""
    a = alpha(paces, switches_s)
    quotas = quotas_s(paces, switches_s, a)
    assert all(pace.step_s <= quota <= max(MAX_QUOTA_S, pace.step_s) for pace, quota in zip(paces, quotas, strict=True))
    is_cut = any(quota == pace.step_s for pace, quota in zip(paces, quotas, strict=True))
    if switches_s > 1e-3 and not is_cut:
        round_s = sum(quotas) + switches_s
        for pace, quota in zip(paces, quotas, strict=True):
            assert round_s == pytest.approx(a * quota / pace.step_s * pace.tbt_s, rel=1e-3)
