"""Follows the feed: for as long as it lasts, once, or line by line for scripts."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import msgspec

from cli.backoff import Backoff
from cli.exit_codes import Answered, ExitCode, Unreachable, exit_code
from cli.gateway_client import GatewayClient
from cli.top.feed import Event, State, decode
from cli.top.view import View

PATH: Final = "/admin/feed"
_OK: Final = 200
_SERVERS_FAULT: Final = 500  # and statuses above it
_SETTLED_S: Final = 1.5  # by then workers were heard, and rates are known


class Disconnected(Exception):
    """The text says why; tries again."""


async def feed(client: GatewayClient) -> AsyncGenerator[Event, None]:
    """Until it breaks. Raises Unreachable, Answered."""
    async with client.stream("GET", PATH) as events:
        async for said in events:
            if not said.data:
                continue
            try:
                event = decode(said.data)
            except msgspec.DecodeError as error:
                raise Answered(_OK, "", f"{client.url}{PATH} says what is no feed: {error}") from None
            if event is not None:
                yield event
    raise Unreachable(f"{client.url} ended the feed")


async def settled(client: GatewayClient, clock: Callable[[], float]) -> View:
    """As soon as everything is known. Raises Unreachable, Answered."""
    view = View()
    first_at_s: float | None = None
    async with aclosing(feed(client)) as events:
        async for event in events:
            view.apply(event, clock())
            if isinstance(event, State):
                first_at_s = event.at_s if first_at_s is None else first_at_s
                if event.at_s - first_at_s >= _SETTLED_S:
                    break
    return view


async def following(client: GatewayClient) -> AsyncGenerator[Event | Disconnected, None]:
    """For ever, over breaks. Raises Unreachable where nothing was ever heard, Answered for what time won't heal."""
    has_heard = False
    backoff = Backoff()
    clock = asyncio.get_running_loop().time
    while True:
        began_at_s = clock()
        try:
            async with aclosing(feed(client)) as events:
                async for event in events:
                    has_heard = True
                    yield event
        except (Unreachable, Answered) as error:
            is_final = exit_code(error) is ExitCode.REFUSED or (
                isinstance(error, Answered) and error.status < _SERVERS_FAULT
            )
            if not has_heard or is_final:
                raise
            yield Disconnected(str(error))
        await asyncio.sleep(backoff.delay_s(clock() - began_at_s))
