"""Following a feed that breaks, from a client that says what a test tells it to."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
import pytest

from cli.exit_codes import Answered, Unreachable
from cli.sse import ServerEvent
from cli.top import watch
from cli.top.feed import Event, Lost, Turns
from cli.top.watch import Disconnected, following, settled
from tests.unit.cli.top.states import state, turn, worker

Said = Sequence[Event | Exception]


class Client:
    """Each connection says its events, and then fails or ends."""

    url = "http://gateway"

    def __init__(self, *connections: Said) -> None:
        self._connections = iter(connections)

    @asynccontextmanager
    async def stream(self, method: str, path: str) -> AsyncIterator[AsyncIterator[ServerEvent]]:
        said = next(self._connections)
        if said and isinstance(said[0], Exception):
            raise said[0]
        yield self._events(said)

    async def _events(self, said: Said) -> AsyncIterator[ServerEvent]:
        yield ServerEvent(comment="watching")
        for each in said:
            if isinstance(each, Exception):
                raise each
            yield ServerEvent(msgspec.json.encode(each))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch.Backoff, "delay_s", lambda self, lived_s: 0.0)


async def followed(*connections: Said) -> list[Any]:
    """What is heard until it gives up, and why it does."""
    client: Any = Client(*connections)
    heard: list[Any] = []
    async with aclosing(following(client)) as events:
        try:
            async for event in events:
                heard.append(str(event) if isinstance(event, Disconnected) else event)
        except (Unreachable, Answered) as error:
            heard.append(error)
    return heard


REFUSED = Answered(401, "invalid_api_key", "no key")


async def test_it_goes_on_over_breaks_until_it_is_refused() -> None:
    gone = Unreachable("refused")
    heard = await followed(
        [state(1.0), Unreachable("reset")], [gone], [Answered(503, "unavailable", "busy")], [Lost(1)], [REFUSED]
    )
    assert heard == [state(1.0), "reset", "refused", "busy", Lost(1), "http://gateway ended the feed", REFUSED]


@pytest.mark.parametrize("error", [Unreachable("refused"), REFUSED, Answered(429, "", "full"), Answered(404, "", "?")])
async def test_where_nothing_was_ever_heard_it_says_why(error: Exception) -> None:
    assert await followed([error]) == [error]


async def test_a_state_is_settled_when_workers_had_time_to_tell() -> None:
    turns = Turns("w", [turn("a", 10.5, (0.0, 0.1))])
    client: Any = Client([state(10.0), state(10.5, workers=[worker("w")]), turns, state(11.5, workers=[worker("w")])])
    view = await settled(client, lambda: 0.0)
    assert view.state is not None and view.state.at_s == 11.5
    assert view.lanes["w"].cells(11.0, 1.0, 1)[0].model == "a"
