"""On a clock that tests move."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pytest

from gateway.output.wake import Wake


@dataclass(eq=False)
class Timer:
    at_s: float
    ring: Callable[[], None]
    is_cancelled: bool = False

    def when(self) -> float:
        return self.at_s

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """The part of a loop that a Wake uses."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[Timer] = []
        self.num_timers = 0

    def time(self) -> float:
        return self.now_s

    def call_at(self, when_s: float, ring: Callable[[], None]) -> Timer:
        self.timers.append(Timer(when_s, ring))
        self.num_timers += 1
        return self.timers[-1]

    def create_future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def pass_s(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while due := [timer for timer in self.timers if timer.at_s <= until_s and not timer.is_cancelled]:
            first = min(due, key=Timer.when)
            self.timers.remove(first)
            self.now_s = max(self.now_s, first.at_s)
            first.ring()
        self.now_s = until_s


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def wake(loop: Loop) -> Wake:
    return Wake(cast(asyncio.AbstractEventLoop, loop))


async def begin(wake: Wake, timeout_s: float | None) -> asyncio.Task[bool]:
    """A wait that has begun."""
    waiting = asyncio.create_task(wake.wait(timeout_s))
    await asyncio.sleep(0)
    return waiting


async def test_news_ends_a_wait_and_counts_once(wake: Wake, loop: Loop) -> None:
    waiting = await begin(wake, 5.0)
    wake.set()
    wake.set()
    assert await waiting
    again = await begin(wake, 5.0)
    assert not again.done()
    loop.pass_s(5.0)
    assert not await again


async def test_news_that_came_before_is_not_waited_for(wake: Wake, loop: Loop) -> None:
    wake.set()
    assert await wake.wait(5.0)
    assert loop.num_timers == 0


async def test_quiet_counts_from_the_beginning_of_each_wait(wake: Wake, loop: Loop) -> None:
    waiting = await begin(wake, 5.0)
    loop.pass_s(4.0)
    wake.set()
    assert await waiting
    waiting = await begin(wake, 5.0)
    loop.pass_s(4.9)
    assert not waiting.done()
    loop.pass_s(0.2)
    assert not await waiting


async def test_many_waits_take_few_timers(wake: Wake, loop: Loop) -> None:
    for _ in range(1000):
        waiting = await begin(wake, 5.0)
        loop.pass_s(0.02)
        wake.set()
        assert await waiting
    assert loop.num_timers <= 5


async def test_a_shorter_wait_is_not_held_up_by_a_longer_ones_timer(wake: Wake, loop: Loop) -> None:
    waiting = await begin(wake, 5.0)
    wake.set()
    assert await waiting
    waiting = await begin(wake, 1.0)
    loop.pass_s(1.0)
    assert not await waiting


async def test_without_a_limit_only_news_ends_it(wake: Wake, loop: Loop) -> None:
    waiting = await begin(wake, None)
    loop.pass_s(1e9)
    assert not waiting.done()
    wake.set()
    assert await waiting


async def test_a_wait_that_is_cancelled_can_begin_again(wake: Wake, loop: Loop) -> None:
    waiting = await begin(wake, 5.0)
    waiting.cancel()
    await asyncio.wait([waiting])
    waiting = await begin(wake, 5.0)
    wake.set()
    assert await waiting
