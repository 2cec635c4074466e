"""Publishes what synchronous code has to say, in its order."""

import asyncio
import logging
from collections import deque
from typing import Final

from shared.bus import Bus
from shared.errors import BusError
from shared.messages import Message

_log = logging.getLogger(__name__)

MAX_WAITING: Final = 65_536


class Sender:
    """For messages whose loss is repaired by their sender's next look at its state, or hurts nobody."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: deque[tuple[str, Message]] = deque()
        self._is_filled = asyncio.Event()
        self._num_dropped = 0

    def put(self, subject: str, message: Message) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._drop("too many messages wait")
            return
        self._waiting.append((subject, message))
        self._is_filled.set()

    async def run(self) -> None:
        while True:
            await self._is_filled.wait()
            self._is_filled.clear()
            await self.flush()

    async def flush(self) -> None:
        while self._waiting:
            subject, message = self._waiting.popleft()
            try:
                await self._bus.publish(subject, message)
            except BusError as error:
                self._drop(str(error))

    def _drop(self, why: str) -> None:
        self._num_dropped += 1
        if self._num_dropped & (self._num_dropped - 1) == 0:  # at 1, 2, 4, 8, ...
            _log.warning("%d messages dropped so far: %s", self._num_dropped, why)
