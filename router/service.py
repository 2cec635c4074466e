"""The router on the bus: one inbox, one loop that owns the state, and what it decides is sent in order."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from router.dispatch import RETRY_AFTER_S, SETTLE_S, Dispatcher, Send
from router.metrics import RouterMetrics, watch
from router.traces import assign_span
from shared import log, subjects
from shared.bus import Bus
from shared.config import RouterConfig
from shared.errors import BusError, ErrorCode, MessageTooLarge
from shared.ids import Incarnation
from shared.log_control import levels_from
from shared.messages import (
    Accepted,
    AnyMessage,
    Assign,
    Assigned,
    Cancel,
    Message,
    Refused,
    RouterBeat,
    Submit,
    WorkerBeat,
    WorkerCame,
    WorkerWent,
)
from shared.telemetry import Registry
from shared.tracing import Tracer

_log = logging.getLogger(__name__)

QUEUE_GROUP: Final = "routers"  # should two run for a moment, each request has one of them
MAX_INBOX: Final = 4096
INBOX_RESERVE: Final = 1024  # for what can't be refused: cancels, beats, ticks
TICK_S: Final = 0.25
ROUTER_BEAT_S: Final = 1.0
DRAIN_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Tick:
    """Time went by."""


class Router:
    def __init__(
        self,
        bus: Bus,
        config: RouterConfig,
        incarnation: Incarnation,
        clock: Callable[[], float] = time.monotonic,
        settle_s: float = SETTLE_S,
        registry: Registry | None = None,  # None: nobody reads what is measured
        metrics_address: str = "",  # host:port where the registry is read
        tracer: Tracer | None = None,
    ) -> None:
        registry = registry or Registry()
        self._bus = bus
        self._incarnation = incarnation
        self._clock = clock
        self._dispatcher = Dispatcher(config, incarnation, settled_at_s=clock() + settle_s)
        self._inbox: asyncio.Queue[Submit | Cancel | WorkerBeat | _Tick] = asyncio.Queue(MAX_INBOX)
        self._metrics_address = metrics_address
        self._metrics = RouterMetrics(registry)
        self._tracer = tracer
        dispatcher, inbox = self._dispatcher, self._inbox
        watch(registry, bus, lambda: dispatcher.num_workers, dispatcher.num_held, inbox.qsize)
        registry.why_not_ready = lambda: "" if bus.connected else "the message bus is disconnected"

    async def run(self, stopping: asyncio.Event) -> None:
        """On a started bus, until `stopping` is set. What is accepted and not assigned then, owners submit again."""
        subscriptions = [
            await self._bus.subscribe(subjects.BEAT_WORKER, self.receive),
            await self._bus.subscribe(subjects.ALL_REQUESTS, self.receive, queue=QUEUE_GROUP),
        ]
        async with (
            levels_from(self._bus, "router", self._incarnation),
            asyncio.TaskGroup() as tasks,  # its first beat says that requests are heard
        ):
            loops = [tasks.create_task(loop) for loop in (self._decide(), self._tick(), self._beat())]
            await stopping.wait()
            for subscription in reversed(subscriptions):
                await subscription.unsubscribe()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_TIMEOUT_S):
                    await self._inbox.join()
            for loop in loops:
                loop.cancel()

    def receive(self, message: AnyMessage) -> Message | None:
        """Into the inbox at once. The answer to a Submit says only that it is there."""
        match message:
            case Submit(request_id=request_id, attempt=attempt):
                if self._inbox.qsize() >= MAX_INBOX - INBOX_RESERVE:
                    why = "the router's inbox is full"
                    refused = Refused(request_id, attempt, ErrorCode.OVERLOADED, why, RETRY_AFTER_S)
                    self._metrics.sent(refused)
                    return refused
                self._inbox.put_nowait(message)
                return Accepted(request_id, attempt, self._incarnation)
            case Cancel() | WorkerBeat():
                try:
                    self._inbox.put_nowait(message)
                except asyncio.QueueFull:
                    _log.warning("the inbox is full: a %s is lost", type(message).__name__)
        return None

    async def _decide(self) -> None:
        while True:
            message = await self._inbox.get()
            self._metrics.heard(type(message).__name__.removeprefix("_"))
            await self._send(self._handle(message, self._clock()))
            self._inbox.task_done()

    def _handle(self, message: Submit | Cancel | WorkerBeat | _Tick, now_s: float) -> list[Send]:
        match message:
            case Submit():
                return self._dispatcher.submit(message, now_s)
            case Cancel():
                return self._dispatcher.cancel(message)
            case WorkerBeat():
                return self._dispatcher.hear(message, now_s)
            case _Tick():
                return self._dispatcher.tick(now_s)

    async def _send(self, sends: Iterable[Send]) -> None:
        for subject, message, since_s in sends:
            try:
                await self._bus.publish(subject, message)
                self._metrics.sent(message)
                if isinstance(message, Assign) and message.submit.traceparent:
                    self._trace(message, since_s)
            except BusError as error:
                with log.about(_request_of(message)):
                    _log.warning("%s on %s was not sent: %s", type(message).__name__, subject, error)
                if isinstance(message, Assign):
                    await self._send(self._recover(message, error))
            if isinstance(message, WorkerCame | WorkerWent):
                _log.info("%s", message)

    def _trace(self, assign: Assign, since_s: float) -> None:
        if self._tracer is not None and (span := assign_span(self._tracer, assign, since_s, self._clock())):
            self._tracer.put([span])

    def _recover(self, assign: Assign, error: BusError) -> list[Send]:
        if isinstance(error, MessageTooLarge):
            return self._dispatcher.give_up(assign, str(error))
        return self._dispatcher.take_back(assign, self._clock())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self._inbox.put(_Tick())

    async def _beat(self) -> None:
        while True:
            await self._send([Send(subjects.BEAT_ROUTER, RouterBeat(self._incarnation, self._metrics_address))])
            await asyncio.sleep(ROUTER_BEAT_S)


def _request_of(message: Message) -> str:
    """That it is about, if it is about one."""
    match message:
        case Assign(submit=submit):
            return submit.request_id
        case Assigned(request_id=request_id) | Refused(request_id=request_id) | Cancel(request_id=request_id):
            return request_id
        case _:
            return ""
