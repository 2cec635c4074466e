"""/admin/feed: the fleet live, down to single steps, as one stream of events for every viewer.

Workers tell of their steps only while somebody watches: then they hear it once a second. All viewers share what is
subscribed to, and each event is encoded once.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import msgspec
from aiohttp import web

from gateway.fleet.watched_workers import WatchedWorkers
from gateway.http.admin.feed_objects import FeedEvent, FeedStep, FeedSwitch, FeedTurn, FeedTurns
from gateway.http.admin.feed_state import Present
from gateway.http.admin.feed_viewers import Viewer, Viewers
from gateway.http.events import EventStream
from shared import subjects
from shared.bus import Bus
from shared.config import GatewayConfig
from shared.errors import BusError
from shared.messages import AnyMessage, StepTold, SwitchTold, Timeline, TurnTold, Watch, WorkerState

_log = logging.getLogger(__name__)

TICK_S: Final = 0.1  # all that came meanwhile goes to a viewer in one write
_TICKS_PER_STATE: Final = 5
_TICKS_PER_WATCH: Final = 10
_PAUSE_S: Final = 1.0  # after a failure
_DIGITS: Final = 6  # of seconds
_encoder: Final = msgspec.json.Encoder()


class Feed:
    def __init__(self, bus: Bus, present: Present, clock: Callable[[], float]) -> None:
        self._bus = bus
        self._present = present
        self._clock = clock
        self._began_at_s = clock()  # instants of the feed count from here
        self._viewers = Viewers()
        self._workers = WatchedWorkers(self._began_at_s)
        self._told: list[bytes] = []  # since the last tick
        self._is_watched = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._run())
            try:
                yield
            finally:
                task.cancel()

    @contextmanager
    def watching(self) -> Iterator[Viewer]:
        """Begins with the present state. Raises RequestError where too many watch."""
        with self._viewers.joined() as viewer:
            viewer.put([self._state()])
            self._is_watched.set()
            yield viewer

    async def _run(self) -> None:
        while True:
            await self._is_watched.wait()
            self._forget()
            try:
                await self._tell_while_watched()
            except Exception:  # whoever looks on must not end what runs
                _log.exception("the feed failed")
                await asyncio.sleep(_PAUSE_S)
            if not self._viewers:
                self._is_watched.clear()
                self._forget()

    def _forget(self) -> None:
        self._workers = WatchedWorkers(self._clock())
        self._told = []

    async def _tell_while_watched(self) -> None:
        subscription = await self._bus.subscribe(subjects.TIMELINE, self._on_message)
        try:
            for tick in itertools.count():
                if not self._viewers:
                    return
                if tick % _TICKS_PER_WATCH == 0:
                    await self._ask_workers()
                if tick % _TICKS_PER_STATE == 0:
                    self._told.append(self._state())
                told, self._told = self._told, []
                self._viewers.put(told)
                await asyncio.sleep(TICK_S)
        finally:
            await subscription.unsubscribe()

    async def _ask_workers(self) -> None:
        try:
            await self._bus.publish(subjects.WATCH, Watch())
        except BusError as error:
            _log.debug("workers were not asked: %s", error)

    def _on_message(self, message: AnyMessage) -> None:
        match message:
            case WorkerState():
                self._workers.on_state(message)
            case Timeline(worker, _, turns):
                began_at_s = self._workers.on_timeline(message, self._clock())
                told = [turn_of(*each) for each in zip(turns, self._since_began(began_at_s), strict=True)]
                self._told.append(encoded(FeedTurns(worker, told)))
            case _:
                _log.warning("unexpected %s on the timeline's subject", type(message).__name__)

    def _state(self) -> bytes:
        now_s = self._clock()
        workers = [beat.worker for beat, _ in self._present.cluster.workers(now_s)]
        self._workers.keep(workers, self._present.models.entries())
        [at_s] = self._since_began([now_s])
        return encoded(self._present.state(self._workers, len(self._viewers), at_s, now_s))

    def _since_began(self, instants_s: list[float]) -> list[float]:
        return [round(at_s - self._began_at_s, _DIGITS) for at_s in instants_s]


def encoded(event: FeedEvent) -> bytes:
    return _encoder.encode(event)


def turn_of(told: TurnTold, began_at_s: float) -> FeedTurn:
    switch = None if told.switch is None else _switch_of(told.switch)
    return FeedTurn(told.model, began_at_s, switch, [_step_of(step) for step in told.steps])


def _switch_of(told: SwitchTold) -> FeedSwitch:
    return FeedSwitch(told.kind, round(told.waited_s, _DIGITS), told.copied_bytes)


def _step_of(told: StepTold) -> FeedStep:
    return FeedStep(
        round(told.offset_s, _DIGITS),
        round(told.duration_s, _DIGITS),
        told.num_prefill_tokens,
        told.num_decode_tokens,
    )


class FeedRoutes:
    def __init__(self, feed: Feed, config: GatewayConfig) -> None:
        self._feed = feed
        self._config = config

    def add_to(self, app: web.Application) -> None:
        app.add_routes([web.get("/admin/feed", self.feed)])

    async def feed(self, request: web.Request) -> web.StreamResponse:
        stream = EventStream(request, self._config.write_timeout_s)
        with self._feed.watching() as viewer:
            while True:
                if events := await viewer.next(self._config.keepalive_s):
                    await stream.send(events)
                else:
                    await stream.keep_alive("watching")
