"""What a reader has not taken yet, bounded: the oldest make room for newer ones, and the reader hears how many went."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


def _one(_: object) -> int:
    return 1


class Backlog(Generic[T]):
    """One loop's own. The newest is always there, whatever its size."""

    def __init__(self, max_size: int, size_of: Callable[[T], int] = _one) -> None:
        """max_size: of all together; without `size_of` their number."""
        self._max_size = max_size
        self._size_of = size_of
        self._unread: deque[T] = deque()
        self._size = 0
        self._num_lost = 0
        self._wake = asyncio.Event()

    def put(self, items: Iterable[T]) -> None:
        """The oldest first."""
        for item in items:
            self._unread.append(item)
            self._size += self._size_of(item)
            while self._size > self._max_size and len(self._unread) > 1:
                self._size -= self._size_of(self._unread.popleft())
                self._num_lost += 1
            self._wake.set()

    async def take(self, timeout_s: float) -> tuple[int, list[T]]:
        """How many were lost before them, and all that is there, once something is; none after that time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return 0, []
        self._wake.clear()
        num_lost, items = self._num_lost, list(self._unread)
        self._unread.clear()
        self._size = self._num_lost = 0
        return num_lost, items
