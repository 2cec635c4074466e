"""What the reader of a call waits for: news, or that it has been quiet for some time."""

import asyncio


class Wake:
    """For one reader, who waits thousands of times: a timer that is set lasts for all waits that begin before it rings,
    as a timer of each one's own would cost more than the news. It keeps nothing but this alive."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._has_news = False
        self._waiter: asyncio.Future[None] | None = None
        self._quiet_at_s = 0.0  # of the loop's clock, when the present wait is over
        self._timer: asyncio.TimerHandle | None = None

    def set(self) -> None:
        """There is news."""
        self._has_news = True
        self._end_wait()

    async def wait(self, timeout_s: float | None) -> bool:
        """Whether there is news since the last time; False when it has been quiet for `timeout_s`."""
        if not self._has_news:
            if timeout_s is not None:
                self._ring_in(timeout_s)
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        has_news, self._has_news = self._has_news, False
        return has_news

    def _ring_in(self, timeout_s: float) -> None:
        self._quiet_at_s = self._loop.time() + timeout_s
        if self._timer is not None and self._timer.when() > self._quiet_at_s:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._quiet_at_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._quiet_at_s:  # another wait began since
            self._timer = self._loop.call_at(self._quiet_at_s, self._ring)
        else:
            self._end_wait()

    def _end_wait(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
