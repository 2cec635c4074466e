"""Tells gateways what this worker does, step by step, while somebody watches there. Beside the token loop."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gpu_worker.timeline import TimelineRing
from shared import subjects
from shared.bus import Bus
from shared.errors import BusError
from shared.ids import Incarnation, WorkerId
from shared.messages import AnyMessage, Message, Timeline, Watch, WorkerState

_log = logging.getLogger(__name__)

PERIOD_S: Final = 0.1
STATE_S: Final = 0.5


class Broadcast:
    """Subscribes to nothing: `on_message` hears those who watch."""

    def __init__(
        self,
        worker: WorkerId,
        incarnation: Incarnation,
        bus: Bus,
        timeline: TimelineRing,
        state: Callable[[], WorkerState],
        clock: Callable[[], float],
    ) -> None:
        self._worker = worker
        self._incarnation = incarnation
        self._bus = bus
        self._timeline = timeline
        self._state = state
        self._clock = clock
        self._watched = asyncio.Event()

    def on_message(self, message: AnyMessage) -> None:
        if isinstance(message, Watch):
            self._timeline.watch(self._clock())
            self._watched.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._watched.wait()
            _log.debug("somebody watches")
            await self._tell_all()
            self._watched.clear()
            _log.debug("nobody watches any more")

    async def _tell_all(self) -> None:
        """Until nobody watches any more."""
        state_due_at_s = self._clock()
        while True:
            now_s = self._clock()
            self._timeline.lapse(now_s)
            if not self._timeline.is_watched:
                return
            if now_s >= state_due_at_s:
                state_due_at_s = now_s + STATE_S
                await self._publish(self._state())
            turns = self._timeline.take(self._clock())
            if turns:
                await self._publish(Timeline(self._worker, self._incarnation, turns))
            await asyncio.sleep(PERIOD_S)

    async def _publish(self, message: Message) -> None:
        try:
            await self._bus.publish(subjects.TIMELINE, message)
        except BusError as error:
            _log.debug("a %s was not sent: %s", type(message).__name__, error)
