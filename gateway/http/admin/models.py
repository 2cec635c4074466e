"""/admin/models: which models are served, and how. Changes reach every gateway and worker, and outlive the stack."""

import logging
from typing import Final

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from gateway.fleet.cluster import Cluster, ModelState
from gateway.fleet.control import Control
from gateway.fleet.models import Models
from gateway.fleet.orders import Orders
from gateway.http.auth import TENANT
from gateway.http.bodies import json_response, parse
from gateway.http.status import SloObject
from shared.config import ModelSource
from shared.ids import ModelName, WorkerId
from shared.levels import LevelChange, LevelKey, Levels
from shared.messages import ChangeModel, ModelLoad
from shared.slo import Priority, TbtSeconds, TtftSeconds

_log = logging.getLogger(__name__)


class NewModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    path: str  # a folder, a GGUF file or a hub id, on every host that imports it


class ModelPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is absent stays, null means as configured."""

    ttft_s: TtftSeconds | UnsetType | None = UNSET
    tbt_s: TbtSeconds | UnsetType | None = UNSET
    priority: Priority | UnsetType | None = UNSET


class OnWorker(msgspec.Struct, frozen=True):
    state: str
    num_running: int
    num_waiting: int
    progress: float | None  # share done, while it is imported or read from disk
    reason: str


class AdminModel(msgspec.Struct, frozen=True):
    id: str
    path: str
    state: ModelState
    pinned: bool
    slo: SloObject
    priority: int
    changed: LevelChange  # where this differs from the configuration
    workers: dict[WorkerId, OnWorker]
    object: str = "model"


class AdminModelList(msgspec.Struct, frozen=True):
    data: list[AdminModel]
    object: str = "list"


class Deleted(msgspec.Struct, frozen=True):
    id: str
    deleted: bool = True
    object: str = "model"


new_model_decoder: Final = msgspec.json.Decoder(NewModel)
patch_decoder: Final = msgspec.json.Decoder(ModelPatch)
_AS_IT_IS: Final = LevelChange()
_KEYS: Final[tuple[LevelKey, ...]] = ("ttft_s", "tbt_s", "priority")


class AdminModelRoutes:
    def __init__(self, control: Control, orders: Orders, models: Models, levels: Levels, cluster: Cluster) -> None:
        self._control = control
        self._orders = orders
        self._models = models
        self._levels = levels
        self._cluster = cluster

    def add_to(self, app: web.Application) -> None:
        app.add_routes(
            [
                web.get("/admin/models", self.models),
                web.post("/admin/models", self.add),
                web.get("/admin/models/{model:.+}", self.model),
                web.patch("/admin/models/{model:.+}", self.patch),
                web.delete("/admin/models/{model:.+}", self.remove),
                web.post("/admin/models/{model:.+}/pin", self.pin),
                web.post("/admin/models/{model:.+}/unpin", self.unpin),
                web.post("/admin/models/{model:.+}/load", self.load),
                web.post("/admin/models/{model:.+}/unload", self.unload),
            ]
        )

    async def models(self, request: web.Request) -> web.Response:
        return json_response(AdminModelList([self._object(info.name) for info in self._models.all_info()]))

    async def model(self, request: web.Request) -> web.Response:
        return json_response(self._object(_name(request)))

    async def add(self, request: web.Request) -> web.Response:
        """Answered when it is in the catalogue; its state says how far it is."""
        asked = parse(await request.read(), new_model_decoder)
        await self._control.add(ModelSource(asked.id, asked.path))
        _log.info("%s added the model %r", request[TENANT].id, asked.id)
        return json_response(self._object(ModelName(asked.id)), status=202)

    async def remove(self, request: web.Request) -> web.Response:
        """It gets no new requests, and finishes those that it has."""
        name = self._models.entry(_name(request)).name
        await self._control.remove(ModelName(name))
        _log.info("%s removed the model %r", request[TENANT].id, name)
        return json_response(Deleted(name))

    async def patch(self, request: web.Request) -> web.Response:
        asked = parse(await request.read(), patch_decoder)
        given = {key: value for key in _KEYS if (value := getattr(asked, key)) is not UNSET}
        level = msgspec.convert({key: value for key, value in given.items() if value is not None}, LevelChange)
        cleared = tuple(key for key in _KEYS if key in given and given[key] is None)
        return await self._change(request, level=level, cleared=cleared)

    async def pin(self, request: web.Request) -> web.Response:
        return await self._change(request, pinned=True)

    async def unpin(self, request: web.Request) -> web.Response:
        return await self._change(request, pinned=False)

    async def load(self, request: web.Request) -> web.Response:
        """Answered when a worker has taken it on; the model's state on that worker says how far it is."""
        name = _name(request)
        await self._orders.load(name, _worker(request))
        _log.info("%s has the model %r loaded", request[TENANT].id, name)
        return json_response(self._object(name), status=202)

    async def unload(self, request: web.Request) -> web.Response:
        """Answered when workers have taken it on: each does it as soon as it has no work for the model."""
        name = _name(request)
        await self._orders.unload(name, _worker(request))
        _log.info("%s has the model %r unloaded", request[TENANT].id, name)
        return json_response(self._object(name), status=202)

    async def _change(
        self,
        request: web.Request,
        level: LevelChange = _AS_IT_IS,
        cleared: tuple[LevelKey, ...] = (),
        pinned: bool | None = None,
    ) -> web.Response:
        name = _name(request)
        self._models.entry(name)
        await self._control.change(ChangeModel(name, level, cleared, pinned))
        _log.info("%s changed how the model %r is served", request[TENANT].id, name)
        return json_response(self._object(name))

    def _object(self, name: ModelName) -> AdminModel:
        """Raises RequestError where it is not served."""
        entry, info, level = self._models.entry(name), self._models.info(name), self._levels[name]
        return AdminModel(
            name,
            entry.source,
            info.state,
            entry.pinned,
            SloObject(level.slo.ttft_s, level.slo.tbt_s),
            level.priority,
            entry.level,
            {worker: _on_worker(load) for worker, load in self._cluster.loads_of(name).items()},
        )


def _on_worker(load: ModelLoad) -> OnWorker:
    return OnWorker(load.state, load.num_running, load.num_waiting, load.progress, load.reason)


def _name(request: web.Request) -> ModelName:
    return ModelName(request.match_info["model"])


def _worker(request: web.Request) -> WorkerId | None:
    """The one that an order is for, if it names one."""
    return WorkerId(named) if (named := request.query.get("worker")) else None
