"""The bus within one process: the in-memory twin of NatsBus, for tests and simulations.

Messages are encoded and decoded as on the wire. Tests can lose messages (`drop_next`), inject bytes, and take a bus
off its broker and back.
"""

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from shared.delivery import MAX_PENDING_MESSAGES, BusStats, Delivery, Handler, Outbox, check_subject
from shared.errors import BusError, BusUnavailable, MessageTooLarge, NoResponders, RequestTimeout
from shared.messages import AnyMessage, Message, encode

log = logging.getLogger(__name__)

MAX_PAYLOAD_BYTES: Final = 8 << 20
OUTBOX_BYTES: Final = 16 << 20


def matches(pattern: str, subject: str) -> bool:
    """NATS wildcards: * is one token, > is one token or more at the end."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for index, want in enumerate(wanted):
        if want == ">":
            return len(tokens) > index
        if index == len(tokens) or want not in ("*", tokens[index]):
            return False
    return len(wanted) == len(tokens)


class MemoryBroker:
    """Routes between the buses that `connect` returns."""

    def __init__(self, *, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self.max_payload_bytes = max_payload_bytes
        self._subscriptions: dict[int, MemorySubscription] = {}
        self._numbers = itertools.count()
        self._turns = itertools.count()
        self._drops: dict[str, int] = {}  # pattern -> how many messages are still to be lost

    def connect(self, name: str = "test") -> "MemoryBus":
        """A bus that is not started yet."""
        return MemoryBus(self, name)

    def drop_next(self, pattern: str, num: int = 1) -> None:
        """The next messages on matching subjects get lost on their way, as with a slow consumer."""
        self._drops[pattern] = self._drops.get(pattern, 0) + num

    def inject(self, subject: str, payload: bytes) -> None:
        """Publishes any bytes."""
        self.route(subject, payload, reply_to=None)

    def add(self, subscription: "MemorySubscription") -> int:
        number = next(self._numbers)
        self._subscriptions[number] = subscription
        return number

    def remove(self, number: int) -> None:
        self._subscriptions.pop(number, None)

    def route(self, subject: str, payload: bytes, reply_to: str | None) -> bool:
        """Whether somebody listens: each subscription without a queue, and one of each queue group."""
        receivers: list[MemorySubscription] = []
        groups: dict[tuple[str, str], list[MemorySubscription]] = defaultdict(list)
        for subscription in self._subscriptions.values():
            if subscription.listens_to(subject):
                if subscription.queue:
                    groups[subscription.pattern, subscription.queue].append(subscription)
                else:
                    receivers.append(subscription)
        receivers += [members[next(self._turns) % len(members)] for members in groups.values()]
        if receivers and not self._is_lost(subject):
            for receiver in receivers:
                receiver.push(subject, payload, reply_to)
        return bool(receivers)

    def _is_lost(self, subject: str) -> bool:
        for pattern, num in self._drops.items():
            if num > 0 and matches(pattern, subject):
                self._drops[pattern] = num - 1
                return True
        return False


class MemoryBus:
    """A Bus on a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, name: str) -> None:
        self.delivery = Delivery(log)
        self._broker = broker
        self._name = name
        self._outbox = Outbox(OUTBOX_BYTES)
        self._subscriptions: set[MemorySubscription] = set()
        self._callbacks: list[Callable[[bool], None]] = []
        self._inboxes = itertools.count()
        self._answers: set[asyncio.Future[AnyMessage]] = set()  # that requests wait for
        self._started = False
        self._connected = False

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def stats(self) -> BusStats:
        return self.delivery.stats

    def on_change(self, callback: Callable[[bool], None]) -> None:
        self._callbacks.append(callback)

    async def start(self) -> None:
        self._started = self._connected = True

    async def close(self) -> None:
        await asyncio.sleep(0)  # what has been received is handled
        self._started = self._connected = False
        self._end_requests()
        for subscription in tuple(self._subscriptions):
            await subscription.unsubscribe()

    def disconnect(self) -> None:
        """As if the server were gone: nothing is received, and what is published waits in the outbox."""
        self._end_requests()
        self._change(False)

    def reconnect(self) -> None:
        while self._outbox:
            self._broker.route(*self._outbox.pop(), reply_to=None)
        self.stats.num_reconnects += 1
        self._change(True)

    async def publish(self, subject: str, message: Message) -> None:
        self.send(subject, encode(message))

    async def request(self, subject: str, message: Message, timeout_s: float) -> AnyMessage:
        payload = encode(message)
        self._check(subject, payload)
        if not self._connected:
            raise BusUnavailable("the bus is disconnected")
        answer: asyncio.Future[AnyMessage] = asyncio.get_running_loop().create_future()
        inbox = f"_INBOX_{self._name}.{id(self)}.{next(self._inboxes)}"

        def on_answer(message: AnyMessage) -> None:
            if not answer.done():
                answer.set_result(message)

        subscription = await self.subscribe(inbox, on_answer)
        self._answers.add(answer)
        try:
            if not self._broker.route(subject, payload, inbox):
                raise NoResponders(f"nobody listens on {subject}")
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise RequestTimeout(f"no answer on {subject} within {timeout_s} s") from None
        finally:
            self._answers.discard(answer)
            await subscription.unsubscribe()

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> "MemorySubscription":
        subscription = MemorySubscription(self, self._broker, subject, handler, queue)
        self._subscriptions.add(subscription)
        return subscription

    def forget(self, subscription: "MemorySubscription") -> None:
        self._subscriptions.discard(subscription)

    def send(self, subject: str, payload: bytes) -> None:
        self._check(subject, payload)
        if self._connected:
            self._broker.route(subject, payload, reply_to=None)
        else:
            self._outbox.put(subject, payload)

    def _check(self, subject: str, payload: bytes) -> None:
        if not self._started:
            raise BusUnavailable("the bus is not started or already closed")
        check_subject(subject)
        if len(payload) > self._broker.max_payload_bytes:
            raise MessageTooLarge(len(payload), self._broker.max_payload_bytes)

    def _end_requests(self) -> None:
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(BusUnavailable("the connection was lost before the reply came"))

    def _change(self, connected: bool) -> None:
        self._connected = connected
        for callback in self._callbacks:
            callback(connected)


class MemorySubscription:
    """Hands over in the event loop, in the order of publishing, never within the publisher's call."""

    def __init__(self, bus: MemoryBus, broker: MemoryBroker, pattern: str, handler: Handler, queue: str) -> None:
        self.pattern = pattern
        self.queue = queue
        self._bus = bus
        self._broker = broker
        self._handler = handler
        self._num_pending = 0
        self._number = broker.add(self)
        self._ended = False

    def listens_to(self, subject: str) -> bool:
        return self._bus.connected and matches(self.pattern, subject)

    def push(self, subject: str, payload: bytes, reply_to: str | None) -> None:
        if self._num_pending == MAX_PENDING_MESSAGES:
            self._bus.stats.num_slow_drops += 1
            self._bus.delivery.warn("slow", "a handler lags behind: messages on %.100s are lost", subject)
            return
        self._num_pending += 1
        asyncio.get_running_loop().call_soon(self._handle, subject, payload, reply_to)

    def _handle(self, subject: str, payload: bytes, reply_to: str | None) -> None:
        self._num_pending -= 1
        if self._ended:
            return
        reply = self._bus.delivery.deliver(subject, payload, self._handler)
        if reply is None or reply_to is None:
            return
        try:
            self._bus.send(reply_to, encode(reply))
        except BusError as error:
            self._bus.stats.num_failed_replies += 1
            self._bus.delivery.warn("reply", "no reply to a request on %.100s: %s", subject, error)

    async def unsubscribe(self) -> None:
        self._ended = True
        self._broker.remove(self._number)
        self._bus.forget(self)
