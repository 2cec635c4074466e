from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import sse
from cli.sse import EventReader, ServerEvent

STREAM = b": queue position 3\n\nevent: x\ndata: {1}\n\ndata:a\ndata: b\r\n\r\nid: 4\n\ndata: [DONE]\n\n"
EVENTS = [
    ServerEvent(comment="queue position 3"),
    ServerEvent(b"{1}"),
    ServerEvent(b"a\nb"),
    ServerEvent(b"[DONE]"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_where_bytes_are_cut_does_not_matter(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(STREAM)]
    reader = EventReader()
    found = [event for a, b in pairwise(bounds) for event in reader.feed(STREAM[a:b])]
    assert found == EVENTS


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    reader = EventReader()
    with pytest.raises(ValueError, match="100 bytes"):
        for _ in range(100):
            reader.feed(b"data: 0123456789\n")
