import pytest

from cli.top.colours import PALETTE, marks, stacked


def test_models_have_different_colours_while_there_are_enough_and_keep_them() -> None:
    names = [f"model-{number}" for number in range(len(PALETTE))]
    found = marks(names)
    assert len({mark.colour for mark in found.values()}) == len(PALETTE)
    assert len({mark.letter for mark in found.values()}) == len(PALETTE)
    assert marks(reversed(names)) == found
    assert marks([*names, *names]) == found


def test_more_models_than_colours_share_them() -> None:
    found = marks(f"model-{number}" for number in range(100))
    assert len(found) == 100 and {mark.colour for mark in found.values()} == set(PALETTE)


@pytest.mark.parametrize(
    ("parts", "total", "bar"),
    [
        ({}, 100, "...."),
        ({"a": 50}, 100, "aa.."),
        ({"b": 25, "a": 50}, 100, "aab."),
        ({"a": 1}, 1000, "a..."),  # a little is something
        ({"a": 200}, 100, "aaaa"),
        ({"a": 60, "b": 60}, 0, "aabb"),  # a total that is not known
        ({"a": 0}, 100, "...."),
        ({}, 0, "...."),
    ],
)
def test_a_bar_shows_who_has_which_part(parts: dict[str, int], total: int, bar: str) -> None:
    assert "".join(name or "." for name in stacked(parts, total, 4)) == bar
