"""/admin/workers, /admin/requests and /admin/events: what the fleet does now. No prompt and no output is shown."""

import logging
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from aiohttp import web

from gateway.admission.in_flight import InFlight
from gateway.fleet.cluster import Cluster
from gateway.fleet.control import Control
from gateway.fleet.fleet_news import FleetNews
from gateway.http.auth import TENANT
from gateway.http.bodies import json_response
from gateway.http.events import EventStream
from shared.config import GatewayConfig
from shared.ids import Incarnation, WorkerId
from shared.messages import ModelLoad, WorkerBeat

_log = logging.getLogger(__name__)
_encoder: Final = msgspec.json.Encoder()


class ModelOnWorker(msgspec.Struct, frozen=True):
    id: str
    state: str
    num_running: int
    num_waiting: int
    progress: float | None
    reason: str


class AdminWorker(msgspec.Struct, frozen=True):
    id: WorkerId
    incarnation: Incarnation
    draining: bool  # it takes no new work
    silent_s: float  # since its last beat
    kv_used_bytes: int
    kv_total_bytes: int
    models: list[ModelOnWorker]
    metrics_address: str
    object: str = "worker"


class AdminWorkerList(msgspec.Struct, frozen=True):
    data: list[AdminWorker]
    object: str = "list"


class AdminRequestList(msgspec.Struct, frozen=True):
    """Of this gateway, the oldest call's first."""

    data: list[InFlight]
    object: str = "list"


class DrainChange(msgspec.Struct, frozen=True):
    id: WorkerId
    draining: bool
    object: str = "worker"


class FleetRoutes:
    def __init__(
        self,
        control: Control,
        cluster: Cluster,
        news: FleetNews,
        in_flight: Callable[[], Iterator[InFlight]],
        config: GatewayConfig,
        clock: Callable[[], float],
    ) -> None:
        self._control = control
        self._cluster = cluster
        self._news = news
        self._in_flight = in_flight
        self._config = config
        self._clock = clock

    def add_to(self, app: web.Application) -> None:
        app.add_routes(
            [
                web.get("/admin/workers", self.workers),
                web.post("/admin/workers/{worker}/drain", self.drain),
                web.post("/admin/workers/{worker}/resume", self.resume),
                web.get("/admin/requests", self.requests),
                web.get("/admin/events", self.events),
            ]
        )

    async def workers(self, request: web.Request) -> web.Response:
        found = self._cluster.workers(self._clock())
        return json_response(AdminWorkerList([_worker(beat, silent_s) for beat, silent_s in found]))

    async def requests(self, request: web.Request) -> web.Response:
        return json_response(AdminRequestList(list(self._in_flight())))

    async def drain(self, request: web.Request) -> web.Response:
        """It gets no new work from now on; that it has none any more shows in its models' numbers."""
        worker = WorkerId(request.match_info["worker"])
        if all(beat.worker != worker for beat, _ in self._cluster.workers(self._clock())):
            raise web.HTTPNotFound(reason="There is no such worker.")
        return await self._drain(request, worker, drained=True)

    async def resume(self, request: web.Request) -> web.Response:
        """Also of one that is away just now."""
        return await self._drain(request, WorkerId(request.match_info["worker"]), drained=False)

    async def _drain(self, request: web.Request, worker: WorkerId, *, drained: bool) -> web.Response:
        await self._control.drain(worker, drained=drained)
        _log.info("%s %s the worker %r", request[TENANT].id, "drained" if drained else "resumed", worker)
        return json_response(DrainChange(worker, drained))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Begins with every model's state on every worker, within a beat."""
        stream = EventStream(request, self._config.write_timeout_s)
        async with self._news.listening() as listener:
            await stream.keep_alive("listening")
            while True:
                if news := await listener.next(self._config.keepalive_s):
                    await stream.send(_encoder.encode(each) for each in news)
                else:
                    await stream.keep_alive("listening")


def _worker(beat: WorkerBeat, silent_s: float) -> AdminWorker:
    return AdminWorker(
        beat.worker,
        beat.incarnation,
        beat.draining,
        silent_s,
        beat.kv_used_bytes,
        beat.kv_total_bytes,
        [_model(load) for load in beat.models],
        beat.metrics_address,
    )


def _model(load: ModelLoad) -> ModelOnWorker:
    return ModelOnWorker(load.model, load.state, load.num_running, load.num_waiting, load.progress, load.reason)
