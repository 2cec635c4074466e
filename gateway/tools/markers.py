"""Markers in a text that arrives in pieces. No marker is the beginning of another."""

from collections.abc import Iterable


def first_marker(text: str, markers: Iterable[str]) -> tuple[int, str] | None:
    """Where the first of them begins, and which it is."""
    found = [(start, marker) for marker in markers if (start := text.find(marker)) >= 0]
    return min(found, default=None)


def possible_start(text: str, markers: Iterable[str]) -> int:
    """The least index from which the text's tail could be the beginning of a marker, or the text's length."""
    cut = len(text)
    for marker in markers:
        for start in range(max(0, len(text) - len(marker) + 1), cut):
            if marker.startswith(text[start:]):
                cut = start
                break
    return cut
