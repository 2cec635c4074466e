from contextlib import ExitStack

import pytest

from gateway.http.admin.feed_viewers import MAX_UNREAD_BYTES, MAX_VIEWERS, Viewer, Viewers
from shared.errors import ErrorCode, RequestError

NUM_FIT = 8
EVENT = b"x" * (MAX_UNREAD_BYTES // NUM_FIT)


async def test_events_are_read_in_their_order_all_at_once() -> None:
    viewer = Viewer()
    viewer.put([b"1", b"2"])
    viewer.put([b"3"])
    assert await viewer.next(timeout_s=1.0) == [b"1", b"2", b"3"]
    viewer.put([])
    assert await viewer.next(timeout_s=0.0) == []


async def test_who_reads_too_slowly_misses_the_oldest_and_hears_how_many() -> None:
    viewer = Viewer()
    viewer.put([b"first", b"second", *[EVENT] * NUM_FIT])
    assert await viewer.next(timeout_s=1.0) == [b'{"type":"lost","number":2}', *[EVENT] * NUM_FIT]
    viewer.put([b"more"])
    assert await viewer.next(timeout_s=1.0) == [b"more"]


async def test_the_newest_is_there_however_large() -> None:
    viewer = Viewer()
    viewer.put([b"small", b"y" * (MAX_UNREAD_BYTES + 1)])
    lost, newest = await viewer.next(timeout_s=1.0)
    assert b'"number":1' in lost and len(newest) == MAX_UNREAD_BYTES + 1


async def test_so_many_may_watch_and_all_get_the_same_bytes() -> None:
    viewers = Viewers()
    with viewers.joined() as first, viewers.joined() as second:
        viewers.put([EVENT])
        [[one], [other]] = [await viewer.next(timeout_s=1.0) for viewer in (first, second)]
        assert one is other is EVENT
    with ExitStack() as many:
        for _ in range(MAX_VIEWERS):
            many.enter_context(viewers.joined())
        with pytest.raises(RequestError) as refused, viewers.joined():
            pass
        assert refused.value.code is ErrorCode.OVERLOADED and len(viewers) == MAX_VIEWERS
    assert len(viewers) == 0
