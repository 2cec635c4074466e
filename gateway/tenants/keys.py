"""The API keys in force: those of the configuration and those of the key file, which is read again when it changes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from gateway.tenants.tenant import Tenant, tenant_of
from shared.api_keys import ApiKey, given_keys, hash_of, key_file, read_keys
from shared.config import Config
from shared.errors import ConfigError
from shared.exposure import check_exposure, is_loopback

_log = logging.getLogger(__name__)

POLL_S: Final = 1.0

_Stamp = tuple[int, int, int] | None  # of a file's content; None: there is none


class KeyRing:
    """Some keys, found by their hash."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._by_hash = {key.sha256: tenant_of(key) for key in keys}

    def __len__(self) -> int:
        return len(self._by_hash)

    def find(self, key: str) -> Tenant | None:
        """By its hash: of that alone the look-up's time tells, and nobody can come near a hash step by step."""
        return self._by_hash.get(hash_of(key))

    def tenants(self) -> set[str]:
        return {tenant.id for tenant in self._by_hash.values()}


class Keys:
    """Once there is a key file, even without keys, or a configured key, nobody gets in without a key."""

    def __init__(
        self, given: tuple[ApiKey, ...], path: Path, *, is_exposed: bool, on_change: Callable[[set[str]], None]
    ) -> None:
        """is_exposed: other machines get in, too, and never without a key. on_change: the ids of all that have one."""
        self._given = given
        self._path = path
        self._is_exposed = is_exposed
        self._on_change = on_change
        self._stamp: _Stamp = None
        self._ring = KeyRing(given)
        self._has_file = False

    @property
    def are_needed(self) -> bool:
        return self._is_exposed or self._has_file or bool(self._given)

    def __len__(self) -> int:
        return len(self._ring)

    def find(self, key: str) -> Tenant | None:
        return self._ring.find(key)

    def load(self) -> None:
        """Raises ConfigError."""
        self._stamp = _stamp(self._path)  # before it is read: a change meanwhile shows at the next look
        self._take(read_keys(self._path))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            poll = tasks.create_task(self._poll())
            try:
                yield
            finally:
                poll.cancel()

    async def look(self) -> None:
        """Takes what has changed. What can't be read changes nothing."""
        stamp = await asyncio.to_thread(_stamp, self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._take(await asyncio.to_thread(read_keys, self._path))
        except ConfigError as error:
            _log.error("API keys stay as they were: %s", error)
            return
        _log.info("%d API keys are in force", len(self._ring))

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self.look()

    def _take(self, kept: tuple[ApiKey, ...] | None) -> None:
        self._has_file = kept is not None
        self._ring = KeyRing((*(kept or ()), *self._given))
        self._on_change(self._ring.tenants())


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def open_keys(config: Config, on_change: Callable[[set[str]], None]) -> Keys:
    """Raises ConfigError, also where other machines would get in and there is no key."""
    check_exposure(config)
    is_exposed = not is_loopback(config.gateway.host)
    keys = Keys(given_keys(config), key_file(config), is_exposed=is_exposed, on_change=on_change)
    keys.load()
    if keys.are_needed:
        _log.info("%d API keys are in force", len(keys))
    else:
        _log.info("there are no API keys: whoever is on this machine may use it, and nobody else")
    return keys
