"""The message bus. The only file that imports nats; `shared/memory_bus.py` is its in-memory twin."""

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NativeSubscription

from shared import subjects
from shared.config import BusConfig
from shared.delivery import MAX_PENDING_MESSAGES, BusStats, Delivery, Handler, Outbox, check_subject
from shared.errors import BusError, BusUnavailable, MessageTooLarge, NoResponders, RequestTimeout
from shared.messages import AnyMessage, Message, decode, encode

log = logging.getLogger(__name__)

HEADER_MARGIN_BYTES: Final = 4096  # the server's payload limit counts headers
MAX_PENDING_BYTES: Final = 64 << 20  # received and not yet handled, per subscription
HIGH_WATER_BYTES: Final = 1 << 20  # from here on publishers wait for the server
OUTBOX_BYTES: Final = 16 << 20  # published and not on the socket, connected or not; more is refused
CONNECT_TIMEOUT_S: Final = 5.0
PING_INTERVAL_S: Final = 2
MAX_MISSED_PINGS: Final = 2
ROUND_TRIP_TIMEOUT_S: Final = 5
CLOSE_TIMEOUT_S: Final = 3.0
LOST_CHECK_S: Final = 1.0
BACKOFF_S: Final = (0.05, 2.0)  # first and longest pause between attempts to reconnect
_LOST_THIS_INSTANT: Final = (
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionDrainingError,
    nats.errors.OutboundBufferLimitError,
    OSError,
)


class Subscription(Protocol):
    async def unsubscribe(self) -> None: ...


class Bus(Protocol):
    """Typed publish/subscribe. Constructors do nothing; `start` connects, `close` drains and disconnects."""

    async def start(self) -> None:
        """Raises BusUnavailable when the server can't be reached or rejects the credentials."""

    async def close(self) -> None: ...

    async def publish(self, subject: str, message: Message) -> None:
        """Raises MessageTooLarge or SubjectTooLong (nothing was sent), or BusUnavailable (the outgoing buffer is full
        or closed)."""

    async def request(self, subject: str, message: Message, timeout_s: float) -> AnyMessage:
        """Raises NoResponders at once when nobody listens, RequestTimeout, and what `publish` raises.

        Disconnected, it raises BusUnavailable at once instead of waiting in the outgoing buffer.
        """

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """With a queue name, each message goes to one member of that group.

        Receives all that is published after it returns, reconnects included; what is published meanwhile is lost.
        """

    @property
    def connected(self) -> bool: ...

    @property
    def stats(self) -> BusStats: ...

    def on_change(self, callback: Callable[[bool], None]) -> None:
        """Calls back with the new state whenever the connection is lost or is back."""


class _Client(Client):
    """nats-py's client, past its traps."""

    async def send(self, subject: str, payload: bytes, reply: str = "") -> None:
        if self.pending_data_size + len(payload) > OUTBOX_BYTES:
            raise BusUnavailable(f"{self.pending_data_size} bytes wait for the server already")
        await self.publish(subject, payload, reply=reply)
        if self.pending_data_size > HIGH_WATER_BYTES:
            await self.round_trip()

    async def round_trip(self) -> None:
        """Returns when the server has read what was sent before, or gives the connection up.

        Shielded: when the answer to a cancelled flush arrives, nats-py stops reading for good.
        """
        try:
            await asyncio.shield(self._flush_twice())
        except (nats.errors.Error, OSError):
            await self.shut()

    async def _flush_twice(self) -> None:
        # nats-py's PING overtakes what waits in its own buffer; when the answer is here, that has gone out.
        await self.flush(timeout=ROUND_TRIP_TIMEOUT_S)
        await self.flush(timeout=ROUND_TRIP_TIMEOUT_S)

    async def shut(self) -> None:
        """Closes in bounded time, whatever the state."""
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.close()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        # On a broken connection nats-py tries to send what waits, fails, and neither ends its tasks nor calls back.
        if not self.is_draining:
            self._pending, self._pending_data_size = [], 0
        for answer in self._pongs:  # nor does it tell those who wait for the answer to a PING
            if not answer.done():
                answer.set_result(False)
        self._pongs.clear()
        await super()._close(status, do_cbs)


class NatsBus:
    """A Bus on a NATS server. However a connection ends, there is one road back: a fresh one takes its place.

    nats-py's own reconnecting is off: it gives up for good on most errors that the server sends.
    """

    def __init__(self, config: BusConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._delivery = Delivery(log)
        self._outbox = Outbox(OUTBOX_BYTES)
        self._subscriptions: set[_NatsSubscription] = set()
        self._callbacks: list[Callable[[bool], None]] = []
        self._answers: dict[str, asyncio.Future[Msg]] = {}  # that requests wait for, by the inbox's last token
        self._tokens = itertools.count()
        self._client: _Client | None = None
        self._inbox = ""
        self._lost = asyncio.Event()  # set when the present client ended
        self._connected = False
        self._limit_bytes = 0
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def stats(self) -> BusStats:
        return self._delivery.stats

    def on_change(self, callback: Callable[[bool], None]) -> None:
        self._callbacks.append(callback)

    async def start(self) -> None:
        await self._connect()
        self._connected = True
        self._supervisor = asyncio.create_task(self._supervise(), name=f"bus {self._name}")

    async def close(self) -> None:
        if (supervisor := self._supervisor) is None:
            return
        while not supervisor.done():  # Python 3.11's wait_for, in nats-py, can swallow a cancellation
            supervisor.cancel()
            await asyncio.wait([supervisor], timeout=0.1)
        if self._client is not None:
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._client.drain()  # what has been received is handled and answered
            await self._client.shut()
        self._supervisor = None
        self._connected = False
        self._fail_requests()

    async def publish(self, subject: str, message: Message) -> None:
        await self._send(subject, encode(message))

    async def request(self, subject: str, message: Message, timeout_s: float) -> AnyMessage:
        payload = encode(message)
        self._check(subject, payload)
        client = self._client
        if client is None or not self._connected:
            raise BusUnavailable("the bus is disconnected")
        token = str(next(self._tokens))
        answer = self._answers[token] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await client.send(subject, payload, reply=f"{self._inbox}.{token}")
                reply = await answer
        except TimeoutError:
            raise RequestTimeout(f"no answer on {subject} within {timeout_s} s") from None
        except _LOST_THIS_INSTANT as error:
            raise BusUnavailable("the connection was lost before the request was sent") from error
        finally:
            del self._answers[token]
        if reply.headers and reply.headers.get("Status") == "503":
            raise NoResponders(f"nobody listens on {subject}")
        try:
            return decode(reply.data)
        except msgspec.DecodeError:
            self.stats.num_undecodable += 1
            raise BusError(f"the answer on {subject} is not a message") from None

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        subscription = _NatsSubscription(self, subject, handler, queue)
        self._subscriptions.add(subscription)
        if (client := self._client) is not None:
            try:
                await subscription.attach(client)
            except nats.errors.ConnectionClosedError:
                pass  # the next connection will have it
            except nats.errors.Error:
                self.forget(subscription)
                raise
            await client.round_trip()
        return subscription

    def forget(self, subscription: "_NatsSubscription") -> None:
        self._subscriptions.discard(subscription)

    async def receive(self, message: Msg, handler: Handler) -> None:
        reply = self._delivery.deliver(message.subject, message.data, handler)
        if reply is None or not message.reply:
            return
        try:
            await self._send(message.reply, encode(reply))
        except BusError as error:
            self.stats.num_failed_replies += 1
            self._delivery.warn("reply", "no reply to a request on %.100s: %s", message.subject, error)

    def _check(self, subject: str, payload: bytes) -> None:
        if self._supervisor is None:
            raise BusUnavailable("the bus is not started or already closed")
        check_subject(subject)
        if len(payload) > self._limit_bytes:
            raise MessageTooLarge(len(payload), self._limit_bytes)

    async def _send(self, subject: str, payload: bytes) -> None:
        self._check(subject, payload)
        client = self._client
        if client is None or not self._connected:
            self._outbox.put(subject, payload)
            return
        try:
            await client.send(subject, payload)
        except _LOST_THIS_INSTANT:
            self._outbox.put(subject, payload)

    async def _on_answer(self, message: Msg) -> None:
        answer = self._answers.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _fail_requests(self) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(BusUnavailable("the connection was lost before the reply came"))

    async def _connect(self) -> None:
        """Raises BusUnavailable. The new client gets all subscriptions, then what waits in the outbox."""
        client = _Client()
        lost = asyncio.Event()

        async def on_closed() -> None:
            lost.set()

        async def on_error(error: Exception) -> None:
            if client is self._client:  # before, connect raises it
                self._report(error)

        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.connect(
                    self._config.url.split(","),
                    name=self._name,
                    user=self._config.user or None,
                    password=self._config.password or None,
                    inbox_prefix=subjects.inbox_prefix(self._config.user),
                    error_cb=on_error,
                    closed_cb=on_closed,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=PING_INTERVAL_S,
                    max_outstanding_pings=MAX_MISSED_PINGS,
                    pending_size=0,  # publishing never waits inside nats-py, where a cancellation would be swallowed
                )
                if not client.is_connected:
                    raise nats.errors.UnexpectedEOF
                self._client, self._lost = client, lost
                self._limit_bytes = client.max_payload - HEADER_MARGIN_BYTES
                self._inbox = client.new_inbox()
                await client.subscribe(f"{self._inbox}.*", cb=self._on_answer)
                for subscription in tuple(self._subscriptions):  # one that comes later attaches itself
                    await subscription.attach(client)
                await client.round_trip()
                if client.is_closed:
                    raise nats.errors.UnexpectedEOF
                while self._outbox:  # last: what is published from now on must not overtake it
                    await client.publish(*self._outbox.pop())
        except asyncio.CancelledError:
            await client.shut()
            raise
        except Exception as error:  # nats-py raises what it meets: its own errors, OSError, ValueError, ...
            await client.shut()
            raise BusUnavailable(self._explain(error)) from error

    async def _supervise(self) -> None:
        while True:
            await self._until_lost()
            self._fail_requests()
            self._change(False)
            log.warning("%s lost its connection to %s: %s", self._name, self._address(), self._reason())
            pause_s, longest_s = BACKOFF_S
            while not self._connected:
                try:
                    await self._connect()
                    self._change(True)
                except BusUnavailable as error:
                    self._delivery.warn("connect", "%s can't reconnect: %s", self._name, error)
                    await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                    pause_s = min(2 * pause_s, longest_s)
            self.stats.num_reconnects += 1
            log.warning("%s is connected to %s again", self._name, self._address())

    async def _until_lost(self) -> None:
        while self._client is not None and not self._client.is_closed:
            # nats-py sets its state, but doesn't call back before a frozen peer takes the last bytes: look, too.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOST_CHECK_S):
                    await self._lost.wait()

    def _change(self, connected: bool) -> None:
        self._connected = connected
        for callback in self._callbacks:
            try:
                callback(connected)
            except Exception:
                log.exception("a callback of %s failed", self._name)

    def _report(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self.stats.num_slow_drops += 1
            self._delivery.warn("slow", "a handler lags behind: messages on %.100s are lost", error.subject)
        elif "permissions violation" in str(error):
            self.stats.num_violations += 1
            self._delivery.warn("permission", "%.200s", error)
        elif not isinstance(error, nats.errors.UnexpectedEOF):  # that one is told as a lost connection
            self._delivery.warn("nats", "%s: %.200s", type(error).__name__, error)

    def _reason(self) -> str:
        error = self._client.last_error if self._client is not None else None
        return f"{type(error).__name__}: {error}" if error is not None else "closed by the server"

    def _address(self) -> str:
        """The URL without credentials."""
        return ",".join(url.rpartition("@")[2].removeprefix("nats://") for url in self._config.url.split(","))

    def _explain(self, error: Exception) -> str:
        if "authorization" in str(error).lower():
            return f"the NATS server at {self._address()} rejects the credentials of user {self._config.user!r}"
        if isinstance(error, nats.errors.NoServersError | TimeoutError):
            return f"no NATS server answers at {self._address()}"
        return f"no connection to the NATS server at {self._address()}: {type(error).__name__}: {error}"


class _NatsSubscription:
    """One subscription for the bus's life, on whatever client is connected."""

    def __init__(self, bus: NatsBus, subject: str, handler: Handler, queue: str) -> None:
        self._bus = bus
        self._subject = subject
        self._handler = handler
        self._queue = queue
        self._native: NativeSubscription | None = None
        self._ended = False

    async def attach(self, client: Client) -> None:
        async def on_message(message: Msg) -> None:
            if not self._ended:
                await self._bus.receive(message, self._handler)

        if not self._ended:
            self._native = await client.subscribe(
                self._subject,
                queue=self._queue,
                cb=on_message,
                pending_msgs_limit=MAX_PENDING_MESSAGES,
                pending_bytes_limit=MAX_PENDING_BYTES,
            )

    async def unsubscribe(self) -> None:
        self._ended = True
        self._bus.forget(self)
        if self._native is not None:
            with contextlib.suppress(nats.errors.Error):  # the connection ended, and the subscription with it
                await self._native.unsubscribe()
