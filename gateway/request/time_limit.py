"""How long a call may take, as its client says: from its arrival to the last token."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from shared.errors import ErrorCode, RequestError


class TimeLimit:
    def __init__(self, limit_s: float | None, arrived_at_s: float, clock: Callable[[], float]) -> None:
        """limit_s: None for no limit."""
        self._limit_s = limit_s
        self._arrived_at_s = arrived_at_s
        self._clock = clock

    def left_s(self) -> float | None:
        """None: there is no limit."""
        return None if self._limit_s is None else self._arrived_at_s + self._limit_s - self._clock()

    def at_most_s(self, timeout_s: float | None) -> float | None:
        """Either of the two, whichever is less."""
        left_s = self.left_s()
        return timeout_s if left_s is None else left_s if timeout_s is None else min(left_s, timeout_s)

    def check(self) -> None:
        """Raises RequestError when it has passed."""
        left_s = self.left_s()
        if left_s is not None and left_s <= 0:
            raise self._passed()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Ends the block when it passes. Raises RequestError then."""
        try:
            async with asyncio.timeout(self.left_s()) as scope:
                yield
        except TimeoutError:
            if scope.expired():
                raise self._passed() from None
            raise

    def _passed(self) -> RequestError:
        return RequestError(ErrorCode.TIMED_OUT, f"The request was not done within its limit of {self._limit_s:g} s.")
