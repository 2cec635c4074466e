import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.units import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("1kB", 1000),
        ("1.5GiB", 3 << 29),
        (" 2 TiB ", 2 << 40),
        ("500MB", 500_000_000),
    ],
)
def test_sizes_are_read(text: str, num_bytes: int) -> None:
    assert parse_size(text) == num_bytes


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1", "1e9", "2G", "1.GiB", "1,5GiB", "1 2", "\u0661GiB", "9" * 40, "9999999TiB"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@given(st.integers(0, 1 << 60))
def test_a_shown_size_is_right_to_half_a_percent(num_bytes: int) -> None:
    assert parse_size(format_size(num_bytes).replace("bytes", "")) == pytest.approx(num_bytes, rel=0.005)
