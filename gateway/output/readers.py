"""What readers leave unread, bounded over all of them: workers never wait for readers, so the gateway keeps it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final, Protocol, TypeVar

from shared.errors import ErrorCode, RequestError

_log = logging.getLogger(__name__)

LOOK_S: Final = 1.0  # so tokens of a second may come on top of the bound
_BEHIND: Final = RequestError(ErrorCode.CLIENT_TOO_SLOW, "Readers left too much unread, this one the most.")


class Reader(Protocol):
    @property
    def num_unread(self) -> int:
        """Tokens, each once more for every log-probability that comes with it."""

    def abandon(self, error: RequestError) -> None:
        """It is ended, and what it left unread is forgotten."""


R = TypeVar("R", bound=Reader)


def furthest_behind(readers: Collection[R], max_unread: int) -> list[R]:
    """The fewest of them without whom the others are within the bound."""
    num_too_many = sum(reader.num_unread for reader in readers) - max_unread
    found: list[R] = []
    if num_too_many <= 0:
        return found
    for reader in sorted(readers, key=lambda reader: reader.num_unread, reverse=True):
        if num_too_many <= 0:
            break
        num_too_many -= reader.num_unread
        found.append(reader)
    return found


class Readers:
    """Looks after those of all open calls."""

    def __init__(self, all_readers: Callable[[], Collection[Reader]], max_unread: int) -> None:
        self._all_readers = all_readers
        self._max_unread = max_unread

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        looking = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Ends who is furthest behind as long as all together are beyond the bound."""
        ended = furthest_behind(self._all_readers(), self._max_unread)
        for reader in ended:
            reader.abandon(_BEHIND)
        if ended:
            _log.warning("gateway.max_unread_tokens: ended the %d streams that were furthest behind", len(ended))
