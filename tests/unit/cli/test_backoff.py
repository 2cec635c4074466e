from cli.backoff import Backoff


def test_waits_double_up_to_the_most() -> None:
    backoff = Backoff(first_s=0.2, most_s=1.0, settled_s=30.0)
    assert [backoff.delay_s(lived_s=0.0) for _ in range(5)] == [0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_long_life_starts_anew() -> None:
    backoff = Backoff(first_s=0.2, most_s=10.0, settled_s=30.0)
    assert [backoff.delay_s(lived_s) for lived_s in (0.0, 29.9, 30.0, 0.0)] == [0.2, 0.4, 0.2, 0.4]
