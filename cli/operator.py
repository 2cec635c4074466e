"""`kottos models`: asks the steward of a running stack for changes, and waits until its services have made them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from cli.output import Report
from shared import subjects
from shared.bus import Bus
from shared.catalogue import described
from shared.config import ModelSource, check_model
from shared.errors import BusUnavailable, ModelError, NoResponders
from shared.ids import ModelName, OwnerId, WorkerId
from shared.levels import LevelChange, LevelKey
from shared.messages import (
    AddModel,
    AnyMessage,
    AskCatalogue,
    Catalogue,
    CatalogueModel,
    ChangeModel,
    ChangeRefused,
    Message,
    ModelLoad,
    OwnerBeat,
    RemoveModel,
    WorkerBeat,
)

_REQUEST_S: Final = 5.0
_LISTEN_S: Final = 1.5  # every worker and gateway beats at least once
_FRESH_S: Final = 3.0  # who was not heard for longer is not waited for

SERVING: Final = ("resident", "cached")


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model of the catalogue in force, as workers tell of it."""

    name: str
    path: str
    state: str  # the best on any worker
    workers: dict[str, str]  # worker -> state
    reason: str = ""  # why it can't run


@dataclass(frozen=True, slots=True)
class ChangedModel:
    """How a model is served from now on."""

    name: str
    pinned: bool
    changed: LevelChange  # where its service level differs from the configuration


@dataclass
class Heard:
    """The newest beats."""

    workers: dict[WorkerId, tuple[float, WorkerBeat]] = field(default_factory=dict)
    gateways: dict[OwnerId, tuple[float, OwnerBeat]] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def on_message(self, message: AnyMessage) -> None:
        now_s = time.monotonic()
        match message:
            case WorkerBeat():
                self.workers[message.worker] = now_s, message
            case OwnerBeat():
                self.gateways[message.owner] = now_s, message
        self.news.set()

    def loads(self, model: ModelName) -> dict[WorkerId, ModelLoad | None]:
        """Of each worker that is alive; None: it does not know the model."""
        beats = {worker: beat for worker, (at_s, beat) in self.workers.items() if time.monotonic() - at_s <= _FRESH_S}
        return {w: next((load for load in beat.models if load.model == model), None) for w, beat in beats.items()}

    def takes_requests(self, model: ModelName) -> bool:
        """Every gateway that is alive."""
        alive = [beat for at_s, beat in self.gateways.values() if time.monotonic() - at_s <= _FRESH_S]
        return all(model in beat.models for beat in alive)


class Operator:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._heard = Heard()

    async def listed(self) -> list[ModelStatus]:
        catalogue = await self._ask(AskCatalogue())
        await asyncio.sleep(_LISTEN_S)
        return [self._status(model) for model in catalogue.models]

    async def add(self, source: ModelSource, report: Report) -> ModelStatus:
        """Returns when a worker and every gateway can serve it. Raises ModelError with the reason, and takes the model
        back, when it can't be served by any worker."""
        check_model(source)
        [model] = described([source])
        await self._ask(AddModel(model))
        started_at_s = time.monotonic()
        while True:
            loads = self._heard.loads(model.name)
            known = [load for load in loads.values() if load is not None]
            has_listened = time.monotonic() - started_at_s >= _LISTEN_S
            if has_listened and loads and len(known) == len(loads):
                if all(load.state == "failed" for load in known):
                    await self._ask(RemoveModel(model.name))
                    raise ModelError(f"model {model.name!r} can't be served: {known[0].reason}")
                is_settled = all(load.state in (*SERVING, "failed") for load in known)
                if is_settled and self._heard.takes_requests(model.name):
                    return self._status(model)
            shares = [load.progress for load in known if load.progress is not None]
            report("is brought in" if known else "waits for workers", min(shares, default=None))
            await self._news()

    async def remove(self, name: ModelName, report: Report) -> None:
        """Returns when no worker has it any more. Raises ModelError where there is none."""
        await self._ask(RemoveModel(name))
        started_at_s = time.monotonic()
        while True:
            known = [load for load in self._heard.loads(name).values() if load is not None]
            if not known and time.monotonic() - started_at_s >= _LISTEN_S:
                return
            num_left = sum(load.num_running + load.num_waiting for load in known)
            report(f"finishes {num_left} sequences" if num_left else "leaves", None)
            await self._news()

    async def change(
        self, name: ModelName, level: LevelChange, cleared: tuple[LevelKey, ...], pinned: bool | None
    ) -> ChangedModel:
        """Returns when it is kept. Raises ModelError where there is no such model."""
        catalogue = await self._ask(ChangeModel(name, level, cleared, pinned))
        [model] = [model for model in catalogue.models if model.name == name]
        return ChangedModel(model.name, model.pinned, model.level)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        await self._bus.start()
        try:
            for subject in (subjects.BEAT_WORKER, subjects.BEAT_OWNER):
                await self._bus.subscribe(subject, self._heard.on_message)
            yield
        finally:
            await self._bus.close()

    async def _ask(self, message: Message) -> Catalogue:
        subject = subjects.CATALOGUE_ASK if isinstance(message, AskCatalogue) else subjects.CONTROL_MODEL
        try:
            answer = await self._bus.request(subject, message, _REQUEST_S)
        except NoResponders as error:
            raise BusUnavailable("no stack that `kottos serve` started is on this bus") from error
        if isinstance(answer, ChangeRefused):
            raise ModelError(answer.reason)
        assert isinstance(answer, Catalogue)
        return answer

    async def _news(self) -> None:
        self._heard.news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LISTEN_S):
                await self._heard.news.wait()

    def _status(self, model: CatalogueModel) -> ModelStatus:
        loads = self._heard.loads(model.name)
        states = {str(worker): load.state if load else "unknown" for worker, load in loads.items()}
        order = ("resident", "cached", "leaving", "loading", "failed")
        best = next((state for state in order if state in states.values()), "loading")
        reason = next((load.reason for load in loads.values() if load and load.reason), "")
        return ModelStatus(model.name, model.path, best, states, reason)
