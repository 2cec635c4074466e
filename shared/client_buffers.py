"""What a client has received and its loops have not read yet."""

import asyncio
import logging
from collections import deque
from typing import Final

from shared.errors import BusError, RequestError
from shared.ids import OwnerId
from shared.messages import AnyMessage, ModelSwitched, Piece, RequestFinished, WorkerCame, WorkerWent

log = logging.getLogger(__name__)

Event = RequestFinished | ModelSwitched | WorkerCame | WorkerWent

MAX_PIECES: Final = 1024  # per call; a reader behind by more loses the call
MAX_MISSED_BEATS: Final = 5  # of the gateway that serves a call
MAX_EVENTS: Final = 4096  # per loop over events; a reader behind by more loses the oldest


class PiecesLost(BusError):
    """The bus lost pieces of a call: its text would have a hole."""

    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"pieces {expected} to {got - 1} of a call were lost on the bus")
        self.expected = expected
        self.got = got


class GatewayLost(BusError):
    """The gateway that served the call fell silent."""


class ReaderTooSlow(BusError):
    """The call's loop did not take its pieces."""


class Call:
    """A call's pieces on their way from the bus to the reader's loop."""

    def __init__(self, num_choices: int = 1) -> None:
        self.gateway: OwnerId | None = None  # once known
        self._num_choices = num_choices  # that have not finished
        self.ended = False  # the gateway sent the last pieces, and the reader has them
        self._pieces: deque[Piece] = deque()
        self._error: BusError | None = None  # raised once the pieces before it are read
        self._next_number = 1
        self._num_silent_ticks = 0
        self._changed = asyncio.Event()

    def accept(self, reply: Piece) -> None:
        """Piece 0. Raises RequestError."""
        self.gateway = reply.gateway
        self._raise_error_of(reply)

    def push(self, piece: Piece) -> None:
        self.gateway = piece.gateway
        self._num_silent_ticks = 0
        if self._error is not None or piece.number < self._next_number:
            return
        if piece.number > self._next_number:
            self.fail(PiecesLost(self._next_number, piece.number))
        elif len(self._pieces) == MAX_PIECES:
            self.fail(ReaderTooSlow(f"{MAX_PIECES} pieces of a call were not read"))
        else:
            self._next_number += 1
            self._pieces.append(piece)
            self._changed.set()

    def hear(self, gateway: OwnerId) -> None:
        """A beat of this gateway."""
        if self.gateway == gateway:
            self._num_silent_ticks = 0

    def tick(self) -> None:
        """Once per beat interval of our own; counted, not timed, so that a stalled loop blames nobody."""
        self._num_silent_ticks += self.gateway is not None
        if self._num_silent_ticks > MAX_MISSED_BEATS:
            self.fail(GatewayLost(f"{self.gateway} served the call and fell silent"))

    def fail(self, error: BusError) -> None:
        if self._error is None:
            self._error = error
            self._changed.set()

    async def next_piece(self) -> Piece:
        """Raises what ended the call."""
        while not self._pieces:
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        piece = self._pieces.popleft()
        self._raise_error_of(piece)
        self._num_choices -= piece.finish_reason is not None
        self.ended = self._num_choices <= 0
        return piece

    def _raise_error_of(self, piece: Piece) -> None:
        if piece.error is not None:
            self.ended = True
            raise RequestError(piece.error.code, piece.error.message, retry_after_s=piece.error.retry_after_s)


class EventBuffer:
    """The newest events that one loop has not read yet."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._num_lost = 0
        self._ended = False
        self._changed = asyncio.Event()

    def push(self, message: AnyMessage) -> None:
        if not isinstance(message, Event):
            return
        if len(self._events) == MAX_EVENTS:
            self._num_lost += 1
        self._events.append(message)
        self._changed.set()

    def end(self) -> None:
        self._ended = True
        self._changed.set()

    async def next_event(self) -> Event | None:
        """None: no more will come."""
        while not self._events:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        if self._num_lost:
            log.warning("a reader of events is too slow: %d were lost", self._num_lost)
            self._num_lost = 0
        return self._events.popleft()
