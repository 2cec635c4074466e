"""What came for the token loop while a step ran. It takes effect between two steps."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Final, assert_never

from gpu_worker.roster import Roster
from shared.messages import Assign, Cancel, EndAck, OwnerBeat, Resend

log = logging.getLogger(__name__)

_MOST: Final = 65_536

Inbound = Assign | Cancel | EndAck | Resend | OwnerBeat


class Inbox:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._messages: deque[tuple[float, Inbound]] = deque()  # each with the instant at which it came

    def put(self, message: Inbound) -> None:
        if len(self._messages) >= _MOST:
            log.error("inbox is full: dropping a %s", type(message).__name__)
            return
        self._messages.append((self._clock(), message))

    def deliver(self, roster: Roster, now_s: float) -> None:
        """All of them, in order."""
        while self._messages:
            came_at_s, inbound = self._messages.popleft()
            match inbound:
                case Assign() as message:
                    roster.assign(message, came_at_s)  # its age was right then, and a step may have passed
                case Cancel() as message:
                    roster.cancel(message, now_s)
                case EndAck(owner, request_ids):
                    roster.outbox.acknowledge(owner, request_ids)
                case Resend() as message:
                    roster.resend(message)
                case OwnerBeat(owner):
                    roster.see_owner(owner)
                case unknown:
                    assert_never(unknown)
