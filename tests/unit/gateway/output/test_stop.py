from hypothesis import given
from hypothesis import strategies as st

from gateway.output.stop import StopStrings

few = st.text("abc", max_size=12)
stops = st.lists(st.text("abc", min_size=1, max_size=4), max_size=3).map(tuple)


def run(stop_strings: tuple[str, ...], pieces: list[str]) -> tuple[str, str | None]:
    """All that came out, and the stop string that cut it."""
    matcher = StopStrings(stop_strings)
    out = ""
    for piece in pieces:
        text, stopped = matcher.feed(piece)
        out += text
        assert stopped == (matcher.found is not None)
        if stopped:
            return out, matcher.found
    return out + matcher.flush(), None


def expected(stop_strings: tuple[str, ...], text: str) -> tuple[str, str | None]:
    """The definition: cut where the stop string begins that ends first, the longest of those that end there."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stop_strings if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(stops, st.lists(few, max_size=6))
def test_any_split_gives_what_the_whole_text_gives(stop_strings: tuple[str, ...], pieces: list[str]) -> None:
    assert run(stop_strings, pieces) == expected(stop_strings, "".join(pieces))


@given(stops, st.lists(few, max_size=6))
def test_only_a_possible_beginning_is_held_back(stop_strings: tuple[str, ...], pieces: list[str]) -> None:
    matcher = StopStrings(stop_strings)
    fed, out = "", ""
    for piece in pieces:
        text, stopped = matcher.feed(piece)
        if stopped:
            return
        fed, out = fed + piece, out + text
        held = fed[len(out) :]
        assert out + held == fed
        assert not held or any(stop.startswith(held) for stop in stop_strings)


def test_a_stop_string_over_three_tokens() -> None:
    assert run(("\n\nUser:",), ["Hello\n", "\nUs", "er: hi"]) == ("Hello", "\n\nUser:")


def test_a_beginning_that_leads_nowhere_is_passed_on() -> None:
    matcher = StopStrings(("END",))
    assert matcher.feed("the EN") == ("the ", False)
    assert matcher.feed("V") == ("ENV", False)
