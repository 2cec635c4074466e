import pytest

from gateway.http.rate_limits import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0171, "18ms"),
        (0.9999, "1s"),
        (1.25, "1.25s"),
        (59.999, "59.999s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (61.5, "1m1.5s"),
    ],
)
def test_durations_are_as_openais(seconds: float, text: str) -> None:
    assert duration(seconds) == text
