"""A worker process: memory, models, engine and bus, put together and kept alive."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Final

import torch

from gpu_worker.device.base import KvLayout
from gpu_worker.device.select import open_device
from gpu_worker.engine import Engine
from gpu_worker.execution.executor import Executor
from gpu_worker.execution.module import build_module
from gpu_worker.host_cache.client import HostCacheClient
from gpu_worker.host_cache.protocol import BlobId, BlobSpec
from gpu_worker.host_cache.reach import ChildReach, SocketReach
from gpu_worker.importer.launch import ensure_imported
from gpu_worker.metrics import EngineMetrics, Watched, watch
from gpu_worker.model_choice import ModelChoice, place_of
from gpu_worker.model_store import ModelStore
from gpu_worker.outbox import Outbox
from gpu_worker.roster import Roster
from gpu_worker.scheduling.costs import guessed_costs
from gpu_worker.scheduling.policy import Limits
from gpu_worker.scheduling.select import make_policy
from gpu_worker.served_model import ServedModel
from gpu_worker.weights import check_fits
from gpu_worker.worker_memory import QUANTUM_BYTES, open_memory
from shared import subjects
from shared.budget import plan_budget
from shared.bus import Bus
from shared.catalogue import ModelEntry, open_catalogue, read_card, read_manifest
from shared.config import Config
from shared.errors import BusError, KottosError, ModelError
from shared.ids import Incarnation, ModelName, WorkerId, new_id
from shared.importing import Progress, share_done
from shared.machine import memory_limit_bytes, num_cores
from shared.messages import AnyMessage, Assign, Cancel, EndAck, ModelLoad, OwnerBeat, Resend, WorkerBeat
from shared.telemetry import Registry

log = logging.getLogger(__name__)

BEAT_S: Final = 0.5


class WorkerService:
    """Models become available one by one as they are imported and built."""

    def __init__(
        self,
        config: Config,
        worker: WorkerId,
        bus: Bus,
        registry: Registry | None = None,  # None: nobody reads what is measured
        metrics_address: str = "",  # host:port where the registry is read, for whoever hears the beats
    ) -> None:
        registry = registry or Registry()
        self._config = config
        self._worker = worker
        self._bus = bus
        self._metrics_address = metrics_address
        self._incarnation = Incarnation(new_id("life"))
        self._failed: dict[ModelName, str] = {}  # reasons
        self._imported_share: dict[ModelName, float] = {}  # of those that are being imported
        self._num_beats = 0
        worker_config = config.worker
        budget = plan_budget(worker_config, memory_limit_bytes())
        torch.set_num_threads(worker_config.num_threads or max(1, num_cores() // worker_config.num_workers))
        self._device = open_device(
            worker_config.device,
            unified=budget.unified,
            link_bytes_per_s=worker_config.link_bandwidth_bytes or None,
        )
        self._catalogue = open_catalogue(config)
        self._outbox = Outbox(worker, self._incarnation)
        policy = make_policy(worker_config.policy)
        self._roster = Roster(self._outbox, policy, worker_config.max_waiting)
        socket = worker_config.host_cache_socket
        self._cache = HostCacheClient(SocketReach(Path(socket)) if socket else ChildReach(config))
        self._store = ModelStore(self._cache, on_released=self._on_released)
        self._memory = open_memory(self._device, worker_config, budget, self._store, self._roster.has_work)
        self._kv, self._weights = self._memory.kv, self._memory.weights
        self._budget = budget
        region_bytes = budget.host_bytes if budget.unified else budget.weight_bytes
        place = place_of(worker_config.id)
        self._choice = ModelChoice(worker_config.policy, tuple(self._catalogue), place, region_bytes)
        limits = Limits(
            max_step_tokens=worker_config.max_step_tokens,
            max_running=worker_config.max_running,
            turn_steps=worker_config.turn_steps,
            block_tokens=self._device.block_tokens,
            copies_beside_steps=self._device.copies is not None,
        )
        self._engine = Engine(
            worker, bus, self._roster, policy, limits, self._kv, self._weights, self._store, self._device,
            time.monotonic, EngineMetrics(registry), self._memory.split,
        )  # fmt: skip
        watch(registry, Watched(self._roster.models, self._kv, self._store, self._outbox, self._engine.prefetches, bus))

    async def run(self, stopping: asyncio.Event) -> None:
        """On a started bus, until `stopping` is set. Owners see it gone and submit what runs elsewhere."""
        subscriptions = [
            await self._bus.subscribe(subjects.worker(self._worker), self._on_message),
            await self._bus.subscribe(subjects.BEAT_OWNER, self._on_message),
        ]
        async with asyncio.TaskGroup() as tasks:
            loops = [tasks.create_task(loop) for loop in self._loops()]
            await stopping.wait()
            for subscription in subscriptions:
                await subscription.unsubscribe()
            for loop in loops:
                loop.cancel()

    def _loops(self) -> Sequence[Coroutine[None, None, None]]:
        return self._cache.run(self._store.reclaim), self._beat(), self._load_models(), self._engine.run()

    def _on_message(self, message: AnyMessage) -> None:
        match message:
            case Assign() | Cancel() | EndAck() | Resend() | OwnerBeat():
                self._engine.receive(message)
            case _:
                log.warning("a %s does not belong here", type(message).__name__)

    # --- models ---------------------------------------------------------------------------------

    async def _load_models(self) -> None:
        for name, entry in self._catalogue.items():
            try:
                await self._load(name, entry)
            except KottosError as error:
                log.error("model %s is not served: %s", name, error)
                self._failed[name] = str(error)
            except Exception as error:  # transformers may raise anything; the other models are well
                log.exception("model %s is not served", name)
                self._failed[name] = f"{type(error).__name__} while loading it"
            await self._send_beat()

    async def _load(self, name: ModelName, entry: ModelEntry) -> None:
        self._choice.check_own(name)
        dtype, layout = self._config.worker.dtype, self._device.layout
        try:
            await ensure_imported(entry, dtype, self._config.cache_dir, lambda heard: self._note_import(name, heard))
        finally:
            self._imported_share.pop(name, None)
        card, manifest = read_card(entry), read_manifest(entry, layout, dtype)
        if card is None or manifest is None:
            raise ModelError(f"{entry.folder} lacks its card or manifest")
        if not self._budget.unified:
            check_fits(name, manifest.blob_bytes, self._memory.most_weight_bytes)
        torch_dtype: torch.dtype = getattr(torch, dtype)
        shape = self._kv.register(card.kv.token_bytes(torch_dtype.itemsize) * self._device.block_tokens)
        layout_of_kv = KvLayout(
            card.kv,
            torch_dtype,
            self._device.block_tokens,
            shape.block_bytes,
            self._config.worker.slab_bytes,
            QUANTUM_BYTES,
        )
        bound = await asyncio.to_thread(build_module, entry.folder, manifest)
        self._choice.take(name, manifest.blob_bytes)
        executor = Executor(self._device, bound, self._memory.kv_region, layout_of_kv)
        weights_file = entry.weights_folder(layout, dtype).absolute() / "weights.bin"
        self._store.add(name, BlobSpec(BlobId(manifest.sha256), manifest.blob_bytes, str(weights_file)))
        await self._store.preload(name)
        least_blocks = self._memory.least_kv_slabs * shape.blocks_per_slab
        max_tokens = min(card.context_length, least_blocks * self._device.block_tokens)
        if self._memory.split is not None:
            self._memory.split.expect(name, manifest.blob_bytes)
        link = self._config.worker.link_bandwidth_bytes or None
        costs = guessed_costs(manifest.blob_bytes, link, unified=self._budget.unified)
        content_id = f"{entry.folder.name}:{manifest.sha256}"  # weights and texts may change under one name
        self._roster.models[name] = ServedModel(
            name, executor, shape, self._kv, self._weights, self._store, max_tokens, costs, content_id
        )
        log.info("model %s is ready: %d MiB of weights", name, manifest.blob_bytes >> 20)

    def _note_import(self, name: ModelName, progress: Progress) -> None:
        self._imported_share[name] = share_done(progress)

    def _on_released(self, name: ModelName) -> None:
        """Its blob goes: where memory is unified, nothing may view it any more."""
        if self._budget.unified and name in self._roster.models:
            self._roster.models[name].executor.release()

    # --- beats ----------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await self._send_beat()
            await asyncio.sleep(BEAT_S)

    async def _send_beat(self) -> None:
        self._num_beats += 1
        try:
            await self._bus.publish(subjects.BEAT_WORKER, self._make_beat())
        except BusError as error:
            log.warning("no beat: %s", error)

    def _make_beat(self) -> WorkerBeat:
        return WorkerBeat(
            worker=self._worker,
            incarnation=self._incarnation,
            number=self._num_beats,
            models=tuple(self._model_load(name) for name in self._catalogue),
            router=self._roster.last_router,
            last_assignment=self._roster.last_assignment,
            kv_used_bytes=self._kv.device_used_bytes,
            kv_total_bytes=self._kv.device_total_bytes,
            last_frames=self._outbox.last_frames,
            metrics_address=self._metrics_address,
        )

    def _model_load(self, name: ModelName) -> ModelLoad:
        model = self._roster.models.get(name)
        if model is None:
            if (reason := self._failed.get(name)) is not None:
                return ModelLoad(name, "failed", reason=reason)
            return ModelLoad(name, "loading", progress=self._imported_share.get(name, self._store.progress(name)))
        return ModelLoad(
            name,
            "resident" if model.is_resident else "cached",
            num_running=len(model.running),
            num_waiting=len(model.waiting),
            max_sequence_tokens=model.max_sequence_tokens,
            progress=self._store.progress(name),
        )
