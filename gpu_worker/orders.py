"""What operators ask of a worker: a model's weights at hand before anybody needs them, or away.

load:   from disk into host memory -> onto the device, where only models without work go for it
unload: off the device and out of host memory, as soon as nobody has work for it
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from gpu_worker.fetching import FetchedBlobs, Fetcher
from gpu_worker.loader import Loader
from gpu_worker.served_model import ServedModel
from gpu_worker.switches import Switches
from shared.errors import KottosError
from shared.ids import ModelName
from shared.messages import LoadModel, UnloadModel

log = logging.getLogger(__name__)


class OrderedBlobs(FetchedBlobs, Protocol):
    def let_go(self, model: ModelName) -> None:
        """Its blob leaves host memory as soon as nobody holds it."""


class Orders:
    """In the engine's loop. Each is carried out once; the last one of a model counts."""

    def __init__(
        self,
        models: Mapping[ModelName, ServedModel],
        loader: Loader,
        blobs: OrderedBlobs,
        fetcher: Fetcher,
        switches: Switches,
        on_read: asyncio.Event,
    ) -> None:
        """on_read: set when weights came from disk, or failed to."""
        self._models = models
        self._loader = loader
        self._blobs = blobs
        self._fetcher = fetcher
        self._switches = switches
        self._on_read = on_read
        self._loads: dict[ModelName, asyncio.Task[None]] = {}  # which read them into host memory
        self._unloads: set[ModelName] = set()

    def take(self, order: LoadModel | UnloadModel) -> str:
        """Why it is refused; empty: it is taken."""
        name = order.model
        model = self._models.get(name)
        if model is None or model.is_leaving:
            return "the model is not loaded on this worker"
        if isinstance(order, UnloadModel) and model.is_pinned:
            return "the model is pinned"
        self._drop(name)
        if isinstance(order, UnloadModel):
            self._unloads.add(name)
        else:
            model.load_failure = ""
            self._loads[name] = asyncio.get_running_loop().create_task(self._read(model))
        self._on_read.set()
        return ""

    async def advance(self) -> None:
        """Between two steps."""
        for name in [name for name in (*self._loads, *self._unloads) if self._is_over(name)]:
            self._drop(name)
        for name in [name for name in self._unloads if self._is_unused(name)]:
            await self._unload(name)
        if self._loader.copies_beside_steps and not self._loader.is_bringing and self._has_work():
            for name in [name for name, reading in self._loads.items() if reading.done()][:1]:
                self._drop(name)
                if not self._loader.begin(name):
                    log.info("model %s is in host memory; there is no place for it on the device", name)

    async def settle_in(self) -> bool:
        """Between two steps, where no step is due: whether a model was brought in. One at a time: work may come."""
        if self._has_work():
            return False
        for name in [name for name, reading in self._loads.items() if reading.done()]:
            self._drop(name)
            try:
                with self._blobs.hold(name):
                    if await self._loader.settle_in(name):
                        log.info("model %s is on the device now, as an operator wants it", name)
                        return True
            except Exception:
                log.exception("model %s could not be brought in", name)
                self._models[name].load_failure = "its weights could not be brought onto the device"
        return False

    async def close(self) -> None:
        readings = list(self._loads.values())
        for name in list(self._loads):
            self._drop(name)
        if readings:
            await asyncio.wait(readings)

    def _is_over(self, name: ModelName) -> bool:
        """Done by what happened meanwhile, or not possible any more."""
        model = self._models.get(name)
        if model is None or model.is_leaving:
            return True
        if name in self._unloads:
            return model.is_pinned
        return self._loads[name].done() and (model.is_resident or bool(model.load_failure))

    def _drop(self, name: ModelName) -> None:
        self._unloads.discard(name)
        if (reading := self._loads.pop(name, None)) is not None:
            reading.cancel()

    def _is_unused(self, name: ModelName) -> bool:
        return not (_has_work(self._models[name]) or self._fetcher.is_fetching(name))

    async def _unload(self, name: ModelName) -> None:
        self._drop(name)
        await self._loader.forget(name)
        self._fetcher.forget(name)
        self._switches.forget(name)
        self._blobs.let_go(name)
        log.info("model %s is unloaded, as an operator wants it", name)

    async def _read(self, model: ServedModel) -> None:
        try:
            with self._blobs.hold(model.name):
                await self._blobs.fetch(model.name)
        except KottosError as error:
            log.error("model %s: %s", model.name, error)
            model.load_failure = str(error)
        except Exception:
            log.exception("model %s was not read", model.name)
            model.load_failure = "its weights could not be brought into memory"
        finally:
            self._on_read.set()

    def _has_work(self) -> bool:
        return any(map(_has_work, self._models.values()))


def _has_work(model: ServedModel) -> bool:
    return bool(model.running or model.waiting or model.unguided)
