"""The headers by which clients see what is left of their limits, by OpenAI's names and in its form of durations.

https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
"""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from gateway.http.auth import TENANT
from gateway.tenants.usage import Allowance, Usages

Signal = Callable[[web.Request, web.StreamResponse], Awaitable[None]]

_MS_PER_S: Final = 1000


def rate_limit_headers(usages: Usages, clock: Callable[[], float]) -> Signal:
    """For `Application.on_response_prepare`: all answers have them, errors and streams, too."""

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        tenant = request.get(TENANT)
        if tenant is None:
            return
        now_s = clock()
        usage = usages.of(tenant, now_s)
        for things, allowance in (("requests", usage.requests(now_s)), ("tokens", usage.tokens(now_s))):
            if allowance is not None:
                response.headers.update(_headers(things, allowance))

    return add


def _headers(things: str, allowance: Allowance) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{things}": str(allowance.limit),
        f"x-ratelimit-remaining-{things}": str(allowance.remaining),
        f"x-ratelimit-reset-{things}": duration(allowance.full_in_s),
    }


def duration(seconds: float) -> str:
    """Like 20ms, 1.25s, 6m0s; rounded up to milliseconds."""
    num_ms = -int(-seconds * _MS_PER_S // 1)
    minutes, num_ms = divmod(num_ms, 60 * _MS_PER_S)
    if not minutes and num_ms < _MS_PER_S:
        return f"{num_ms}ms"
    return f"{minutes}m{num_ms / _MS_PER_S:g}s" if minutes else f"{num_ms / _MS_PER_S:g}s"
