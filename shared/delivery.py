"""What the bus and its twin share: a message's way to its handler, and the buffer for when nobody is connected."""

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from shared.errors import BusUnavailable, SubjectTooLong
from shared.messages import AnyMessage, Message, decode

# Called in the event loop for each message, one at a time per subscription; hands over at once and never blocks.
# What it returns is the reply, if the sender asked for one.
Handler = Callable[[AnyMessage], Message | None]

MAX_PENDING_MESSAGES = 65_536  # received and not yet handled, per subscription; more are lost, the newest first
# A NATS server ends connections that send longer lines than 4096 bytes; the longest model name takes 1,549 here.
MAX_SUBJECT_CHARS = 2048
LOG_INTERVAL_S = 10.0


@dataclass
class BusStats:
    """Counts since start."""

    num_undecodable: int = 0
    num_handler_errors: int = 0
    num_slow_drops: int = 0  # messages lost because a handler lagged behind
    num_failed_replies: int = 0
    num_violations: int = 0  # publishes and subscriptions that the server refused
    num_reconnects: int = 0


class Delivery:
    """Decodes and hands over; nothing that arrives can end a subscription. Log lines have no content of messages."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self.stats = BusStats()
        self._log = log
        self._clock = clock
        self._quiet_until_s: dict[str, float] = {}  # per kind of line
        self._num_swallowed: dict[str, int] = {}

    def deliver(self, subject: str, payload: bytes, handler: Handler) -> Message | None:
        """Returns the handler's reply."""
        try:
            message = decode(payload)
        except msgspec.DecodeError:
            self.stats.num_undecodable += 1
            self.warn("undecodable", "dropped %d bytes on %.100s that are not a message", len(payload), subject)
            return None
        try:
            return handler(message)
        except Exception as error:
            self.stats.num_handler_errors += 1
            # An exception's text may quote a prompt; its place and type can't.
            place = "".join(traceback.format_tb(error.__traceback__, limit=-4))
            self.warn("handler", "%s in the handler of %.100s\n%s", type(error).__name__, subject, place)
            return None

    def warn(self, kind: str, text: str, *args: object) -> None:
        """One line per kind and LOG_INTERVAL_S. `kind` is one of a few words, not data."""
        now_s = self._clock()
        if now_s < self._quiet_until_s.get(kind, now_s):
            self._num_swallowed[kind] = self._num_swallowed.get(kind, 0) + 1
            return
        self._quiet_until_s[kind] = now_s + LOG_INTERVAL_S
        num_swallowed = self._num_swallowed.pop(kind, 0)
        self._log.warning(text + (f" ({num_swallowed} more like it)" if num_swallowed else ""), *args)


def check_subject(subject: str) -> None:
    """Raises SubjectTooLong."""
    if len(subject) > MAX_SUBJECT_CHARS:
        raise SubjectTooLong(f"a subject of {len(subject)} characters, {MAX_SUBJECT_CHARS} are allowed")


class Outbox:
    """What was published while disconnected, in order, to be sent on return."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._num_bytes = 0
        self._entries: deque[tuple[str, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, subject: str, payload: bytes) -> None:
        """Raises BusUnavailable when full."""
        size_bytes = len(subject) + len(payload)
        if self._num_bytes + size_bytes > self._limit_bytes:
            raise BusUnavailable(f"disconnected, and {self._num_bytes} bytes are waiting to be sent already")
        self._num_bytes += size_bytes
        self._entries.append((subject, payload))

    def pop(self) -> tuple[str, bytes]:
        """The oldest subject and payload."""
        subject, payload = self._entries.popleft()
        self._num_bytes -= len(subject) + len(payload)
        return subject, payload
