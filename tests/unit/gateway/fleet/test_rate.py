from gateway.fleet.rate import WINDOW_S, Rate


def test_it_is_that_of_the_window() -> None:
    rate = Rate(began_at_s=0.0)
    rate.add(30, 5.0)
    rate.add(10, 6.0)
    assert rate.per_s(6.5) == 40 / WINDOW_S
    assert rate.per_s(5.0 + WINDOW_S) == 10 / WINDOW_S
    assert rate.per_s(6.0 + WINDOW_S) == 0.0


def test_of_the_first_moments_it_is_not_too_low() -> None:
    rate = Rate(began_at_s=1.0)
    assert rate.per_s(1.0) == 0.0
    rate.add(30, 1.5)
    assert rate.per_s(1.5) == 60.0
