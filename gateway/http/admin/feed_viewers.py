"""Who reads the feed. Each event is encoded once for all, and a viewer that is slow misses the oldest."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from gateway.fleet.backlog import Backlog
from gateway.http.admin.feed_objects import FeedLost
from shared.errors import ErrorCode, RequestError

MAX_VIEWERS: Final = 16
MAX_UNREAD_BYTES: Final = 1 << 20  # of one viewer; but the newest event is always there
_encoder: Final = msgspec.json.Encoder()


class Viewer:
    def __init__(self) -> None:
        self._unread: Backlog[bytes] = Backlog(MAX_UNREAD_BYTES, len)

    def put(self, events: list[bytes]) -> None:
        """Encoded, the oldest first."""
        self._unread.put(events)

    async def next(self, timeout_s: float) -> list[bytes]:
        """All that is unread, once there is something; empty after that time."""
        num_lost, events = await self._unread.take(timeout_s)
        return [_encoder.encode(FeedLost(num_lost)), *events] if num_lost else events


class Viewers:
    def __init__(self) -> None:
        self._viewers: set[Viewer] = set()

    def __len__(self) -> int:
        return len(self._viewers)

    @contextmanager
    def joined(self) -> Iterator[Viewer]:
        """Raises RequestError where too many watch."""
        if len(self._viewers) >= MAX_VIEWERS:
            raise RequestError(ErrorCode.OVERLOADED, f"{MAX_VIEWERS} watch already.", retry_after_s=10.0)
        viewer = Viewer()
        self._viewers.add(viewer)
        try:
            yield viewer
        finally:
            self._viewers.remove(viewer)

    def put(self, events: list[bytes]) -> None:
        for viewer in self._viewers:
            viewer.put(events)
