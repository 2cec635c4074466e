import asyncio

import pytest

from gateway.request.time_limit import TimeLimit
from shared.errors import ErrorCode, RequestError


def limit(limit_s: float | None, *, age_s: float = 0.0) -> TimeLimit:
    return TimeLimit(limit_s, arrived_at_s=100.0, clock=lambda: 100.0 + age_s)


def test_it_counts_from_the_arrival() -> None:
    assert limit(5.0, age_s=2.0).left_s() == 3.0
    limit(5.0, age_s=4.9).check()
    with pytest.raises(RequestError, match="limit of 5 s") as caught:
        limit(5.0, age_s=5.0).check()
    assert caught.value.code is ErrorCode.TIMED_OUT


def test_other_limits_hold_beside_it() -> None:
    assert [limit(5.0).at_most_s(wait_s) for wait_s in (None, 2.0, 9.0)] == [5.0, 2.0, 5.0]
    assert [limit(None).at_most_s(wait_s) for wait_s in (None, 2.0)] == [None, 2.0]
    limit(None, age_s=1e9).check()


async def test_a_block_ends_when_it_has_passed() -> None:
    with pytest.raises(RequestError, match="limit of 5 s"):
        async with limit(5.0, age_s=6.0).kept():
            await asyncio.Event().wait()


async def test_a_time_out_within_the_block_stays_one() -> None:
    with pytest.raises(TimeoutError):
        async with limit(100.0).kept():
            raise TimeoutError
