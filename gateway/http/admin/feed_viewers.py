"""Who reads the feed. Each event is encoded once for all, and a viewer that is slow misses the oldest."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from gateway.http.admin.feed_objects import FeedLost
from shared.errors import ErrorCode, RequestError

MAX_VIEWERS: Final = 16
MAX_UNREAD_BYTES: Final = 1 << 20  # of one viewer; but the newest event is always there
_encoder: Final = msgspec.json.Encoder()


class Viewer:
    def __init__(self) -> None:
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._num_lost = 0
        self._wake = asyncio.Event()

    def put(self, events: list[bytes]) -> None:
        """Encoded, the oldest first."""
        for event in events:
            self._unread.append(event)
            self._unread_bytes += len(event)
            while self._unread_bytes > MAX_UNREAD_BYTES and len(self._unread) > 1:
                self._unread_bytes -= len(self._unread.popleft())
                self._num_lost += 1
        if events:
            self._wake.set()

    async def next(self, timeout_s: float) -> list[bytes]:
        """All that is unread, once there is something; empty after that time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return []
        self._wake.clear()
        events = list(self._unread)
        if self._num_lost:
            events.insert(0, _encoder.encode(FeedLost(self._num_lost)))
        self._unread.clear()
        self._unread_bytes = self._num_lost = 0
        return events


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
