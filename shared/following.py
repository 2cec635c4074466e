"""Keeps a service's models those of the catalogue in force. Without a steward on the bus its configuration stays it."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from shared import subjects
from shared.bus import Bus
from shared.catalogue import ModelEntry, entries
from shared.errors import BusError
from shared.ids import Incarnation, ModelName
from shared.messages import AnyMessage, AskCatalogue, Catalogue

log = logging.getLogger(__name__)

_ASK_TIMEOUT_S: Final = 1.0

Entries = Mapping[ModelName, ModelEntry]


class Follower:
    def __init__(
        self,
        bus: Bus,
        cache_dir: Path,
        on_change: Callable[[Entries], None],
        on_catalogue: Callable[[Catalogue], None] = lambda catalogue: None,
    ) -> None:
        """Both are called with each catalogue that is new: with its models as services need them, and as it is."""
        self._bus = bus
        self._cache_dir = cache_dir
        self._on_change = on_change
        self._on_catalogue = on_catalogue
        self._heard: tuple[Incarnation, int] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """On a started bus. The catalogue in force is known as soon as this is entered, if there is a steward."""
        subscription = await self._bus.subscribe(subjects.CATALOGUE, self._on_message)
        try:
            self._on_message(await self._bus.request(subjects.CATALOGUE_ASK, AskCatalogue(), _ASK_TIMEOUT_S))
        except BusError as error:
            log.info("models are the configured ones: %s", error)
        try:
            yield
        finally:
            await subscription.unsubscribe()

    def hear(self, catalogue: Catalogue) -> None:
        """What is older than what was heard changes nothing."""
        if self._heard is not None and self._heard[0] == catalogue.steward and self._heard[1] >= catalogue.number:
            return
        self._heard = (catalogue.steward, catalogue.number)
        self._on_catalogue(catalogue)
        self._on_change(entries(self._cache_dir, catalogue.models))

    def _on_message(self, message: AnyMessage) -> None:
        if isinstance(message, Catalogue):
            self.hear(message)
        else:
            log.warning("a %s does not belong here", type(message).__name__)
