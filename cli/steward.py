"""Owns the catalogue in force for as long as a stack runs: says it, answers who asks, changes it as operators want.

It says all of it once a second, not what changed: so nobody can miss a change, and services that start again ask.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from cli.changes import Change, changed
from shared import subjects
from shared.bus import Bus
from shared.errors import BusError
from shared.ids import Incarnation, WorkerId, new_id
from shared.messages import (
    AddModel,
    AnyMessage,
    AskCatalogue,
    Catalogue,
    CatalogueModel,
    ChangeModel,
    ChangeRefused,
    DrainWorker,
    Message,
    RemoveModel,
)

_log = logging.getLogger(__name__)

BEAT_S: Final = 1.0


class Steward:
    def __init__(
        self,
        bus: Bus,
        models: tuple[CatalogueModel, ...],
        drained: tuple[WorkerId, ...] = (),
        keep: Callable[[Catalogue], None] = lambda catalogue: None,
    ) -> None:
        """models: that the services are configured with. keep: called before a change counts; it may raise OSError."""
        self._bus = bus
        self._catalogue = Catalogue(Incarnation(new_id("steward")), 0, models, drained)
        self._keep = keep
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. Raises BusUnavailable when the bus can't be reached."""
        await self._bus.start()
        try:
            for subject in (subjects.CATALOGUE_ASK, subjects.CONTROL_MODEL, subjects.CONTROL_WORKER):
                await self._bus.subscribe(subject, self._on_message)
            while True:
                await self._say()
                self._changed.clear()
                try:
                    async with asyncio.timeout(BEAT_S):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            await self._bus.close()

    def _on_message(self, message: AnyMessage) -> Message | None:
        match message:
            case AskCatalogue():
                return self._catalogue
            case AddModel() | RemoveModel() | ChangeModel() | DrainWorker():
                return self._change(message)
            case _:
                _log.warning("a %s does not belong here", type(message).__name__)
                return None

    def _change(self, change: Change) -> Catalogue | ChangeRefused:
        answer = changed(self._catalogue, change)
        if isinstance(answer, Catalogue) and answer is not self._catalogue:
            try:
                self._keep(answer)
            except OSError as error:
                _log.error("a change was refused, as it can't be kept: %s", error)
                return ChangeRefused(f"it can't be kept: {error.strerror}")
            _log.info("the catalogue in force has %d models now", len(answer.models))
            self._catalogue = answer
            self._changed.set()
        return answer

    async def _say(self) -> None:
        try:
            await self._bus.publish(subjects.CATALOGUE, self._catalogue)
        except BusError as error:
            _log.warning("the catalogue was not said: %s", error)
