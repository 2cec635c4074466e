"""GET /health, /ready and /v1/models."""

import time
from collections.abc import Callable

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from gateway.attainment import Attainment
from gateway.fleet.cluster import Cluster, ModelState
from gateway.fleet.models import ModelInfo, Models, unknown
from gateway.http.auth import TENANT
from gateway.http.bodies import json_response
from shared.bus import Bus
from shared.ids import ModelName
from shared.levels import Levels


class SloObject(msgspec.Struct, frozen=True):
    """Of requests that ask for nothing else."""

    ttft_s: float
    tbt_s: float


class ModelObject(msgspec.Struct, frozen=True):
    id: str
    created: int
    state: ModelState
    context_length: int | None  # null: not known yet
    slo: SloObject
    priority: int
    attainment: float | None  # share of tokens on time since this gateway started; null: none was due yet
    object: str = "model"
    owned_by: str = "kottos"
    reason: str | UnsetType = UNSET  # with state failed
    progress: float | UnsetType = UNSET  # share done, while it is imported or read from disk


class ModelList(msgspec.Struct, frozen=True):
    data: list[ModelObject]
    object: str = "list"


class Health(msgspec.Struct, frozen=True):
    status: str
    reason: str | UnsetType = UNSET


class StatusRoutes:
    def __init__(
        self,
        models: Models,
        levels: Levels,
        attainment: Attainment,
        cluster: Cluster,
        bus: Bus,
        clock: Callable[[], float],
    ) -> None:
        self._models = models
        self._levels = levels
        self._attainment = attainment
        self._cluster = cluster
        self._bus = bus
        self._clock = clock
        self._started = int(time.time())  # Unix time

    async def health(self, request: web.Request) -> web.Response:
        return json_response(Health("alive"))

    async def ready(self, request: web.Request) -> web.Response:
        """Whether a request would be served."""
        if not self._bus.connected:
            reason = "the message bus is disconnected"
        else:
            reason = self._cluster.not_ready(self._clock())
        if not reason:
            return json_response(Health("ready"))
        response = json_response(Health("not ready", reason), status=503)
        response.headers["Retry-After"] = "1"
        return response

    async def models(self, request: web.Request) -> web.Response:
        """Those that whoever asks may use."""
        infos = [info for info in self._models.all_info() if request[TENANT].may_use(info.name)]
        return json_response(ModelList([self._object(info) for info in infos]))

    async def model(self, request: web.Request) -> web.Response:
        name = ModelName(request.match_info["model"])
        if not request[TENANT].may_use(name):
            raise unknown(name)
        return json_response(self._object(self._models.info(name)))

    def _object(self, info: ModelInfo) -> ModelObject:
        level = self._levels[info.name]
        return ModelObject(
            info.name,
            self._started,
            info.state,
            info.context_length,
            SloObject(level.slo.ttft_s, level.slo.tbt_s),
            level.priority,
            self._attainment.of(info.name).share,
            reason=info.reason or UNSET,
            progress=UNSET if info.progress is None else info.progress,
        )
