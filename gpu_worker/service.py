"""A worker process: memory, models, engine and bus, put together and kept alive."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Final

import msgspec
import torch

from gpu_worker.broadcast import Broadcast
from gpu_worker.device.select import open_device
from gpu_worker.engine import Engine
from gpu_worker.host_cache.client import HostCacheClient
from gpu_worker.host_cache.reach import ChildReach, SocketReach
from gpu_worker.known_shapes import known_shapes
from gpu_worker.metrics import EngineMetrics
from gpu_worker.model_choice import ModelChoice, place_of
from gpu_worker.model_costs import ModelCosts
from gpu_worker.model_store import ModelStore
from gpu_worker.outbox import Outbox
from gpu_worker.roster import Roster
from gpu_worker.scheduling.measured_costs import SwitchCosts
from gpu_worker.scheduling.policy import Limits
from gpu_worker.scheduling.select import make_policy
from gpu_worker.served_models import Ground, ServedModels
from gpu_worker.state_metrics import Watched, watch
from gpu_worker.traces import Traces
from gpu_worker.worker_memory import open_memory, with_slab_size
from gpu_worker.worker_state import Residency
from shared import subjects
from shared.budget import plan_budget
from shared.bus import Bus
from shared.catalogue import open_catalogue
from shared.config import Config
from shared.errors import BusError
from shared.following import Follower
from shared.ids import Incarnation, ModelName, WorkerId, new_id
from shared.log_control import levels_from
from shared.machine import cpu_name, memory_limit_bytes, num_cores
from shared.messages import (
    AnyMessage,
    Assign,
    Cancel,
    Catalogue,
    EndAck,
    LoadModel,
    Message,
    OrderRefused,
    OrderTaken,
    OwnerBeat,
    Resend,
    UnloadModel,
    WorkerBeat,
)
from shared.telemetry import Registry
from shared.tracing import Tracer

log = logging.getLogger(__name__)

BEAT_S: Final = 0.5


class WorkerService:
    """Serves the configured models, or those of the catalogue in force where the bus has a steward."""

    def __init__(
        self,
        config: Config,
        worker: WorkerId,
        bus: Bus,
        registry: Registry | None = None,  # None: nobody reads what is measured
        metrics_address: str = "",  # host:port where the registry is read, for whoever hears the beats
        tracer: Tracer | None = None,
    ) -> None:
        registry = registry or Registry()
        self._config = config
        self._worker = worker
        self._bus = bus
        self._metrics_address = metrics_address
        self._incarnation = Incarnation(new_id("life"))
        self._num_beats = 0
        worker_config = config.worker
        budget = plan_budget(worker_config, memory_limit_bytes())
        torch.set_num_threads(worker_config.num_threads or max(1, num_cores() // worker_config.num_workers))
        self._device = open_device(
            worker_config.device,
            unified=budget.unified,
            link_bytes_per_s=worker_config.link_bandwidth_bytes or None,
        )
        catalogue = open_catalogue(config)
        shapes = known_shapes(catalogue.values())
        worker_config = with_slab_size(worker_config, budget, shapes, self._device.block_tokens)
        config = msgspec.structs.replace(config, worker=worker_config)
        self._outbox = Outbox(worker, self._incarnation)
        policy = make_policy(worker_config.policy, min_turn=worker_config.min_turn, max_wait_s=worker_config.max_wait_s)
        self._roster = Roster(self._outbox, policy, worker_config.max_waiting, Traces(tracer))
        socket = worker_config.host_cache_socket
        self._cache = HostCacheClient(SocketReach(Path(socket)) if socket else ChildReach(config))
        self._store = ModelStore(self._cache, on_released=self._on_released)
        self._memory = open_memory(self._device, worker_config, budget, self._store, self._roster.keeps_weights)
        self._kv = self._memory.kv
        self._is_unified = budget.unified
        region_bytes = budget.host_bytes if budget.unified else budget.weight_bytes
        place = place_of(worker_config.id)
        choice = ModelChoice(worker_config.policy, tuple(catalogue), place, region_bytes)
        limits = Limits(
            max_step_tokens=worker_config.max_step_tokens,
            max_running=worker_config.max_running,
            turn_steps=worker_config.turn_steps,
            block_tokens=self._device.block_tokens,
            copies_beside_steps=self._device.copies is not None,
        )
        link_bytes_per_s = worker_config.link_bandwidth_bytes or None
        machine = f"{self._device.name}, {cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        self._costs = ModelCosts(machine, SwitchCosts(link_bytes_per_s, unified=budget.unified))
        self._engine = Engine(
            worker, bus, self._roster, policy, limits, self._kv, self._memory.weights, self._store, self._device,
            time.monotonic, EngineMetrics(registry), self._memory.split, self._costs.switches,
        )  # fmt: skip
        ground = Ground(config, self._device, self._memory, self._store, choice, self._costs, budget.unified)
        engine = self._engine
        self._served = ServedModels(ground, self._roster.models, engine.calibrate, engine.retire, self._send_beat)
        self._served.follow(catalogue)
        self._is_drained = False
        self._follower = Follower(bus, config.cache_dir, self._served.follow, self._note_drained)
        watch(
            registry,
            Watched(
                self._roster.models, self._kv, self._store, self._memory.weights, self._cache, self._outbox,
                self._engine.prefetches, bus,
            ),
        )  # fmt: skip
        residency = Residency(
            worker, self._incarnation, worker_config.policy, self._roster.models, self._store, self._memory.weights,
            budget.host_bytes,
        )  # fmt: skip
        self._broadcast = Broadcast(worker, self._incarnation, bus, engine.timeline, residency.state, time.monotonic)
        registry.why_not_ready = self._why_not_ready

    async def run(self, stopping: asyncio.Event) -> None:
        """On a started bus, until `stopping` is set. Owners see it gone and submit what runs elsewhere."""
        subscriptions = [
            await self._bus.subscribe(subjects.worker(self._worker), self._on_message),
            await self._bus.subscribe(subjects.BEAT_OWNER, self._on_message),
            await self._bus.subscribe(subjects.WATCH, self._broadcast.on_message),
        ]
        try:
            async with (
                levels_from(self._bus, "worker", self._worker),
                self._follower.running(),
                asyncio.TaskGroup() as tasks,
            ):
                loops = [tasks.create_task(loop) for loop in self._loops()]
                await stopping.wait()
                for subscription in subscriptions:
                    await subscription.unsubscribe()
                for loop in loops:
                    loop.cancel()
        finally:
            self._device.close()
            self._costs.save_all()

    def _loops(self) -> Sequence[Coroutine[None, None, None]]:
        own = self._beat(), self._broadcast.run()
        return self._cache.run(self._store.reclaim), self._served.run(), self._engine.run(), *own

    def _on_message(self, message: AnyMessage) -> Message | None:
        match message:
            case Assign() | Cancel() | EndAck() | Resend() | OwnerBeat():
                self._engine.receive(message)
            case LoadModel() | UnloadModel():
                reason = self._engine.order(message)
                return OrderRefused(self._worker, reason) if reason else OrderTaken(self._worker)
            case _:
                log.warning("a %s does not belong here", type(message).__name__)
        return None

    def _note_drained(self, catalogue: Catalogue) -> None:
        """Beats say so: it gets no new work, and owners have what it runs go on elsewhere where they can."""
        is_drained = self._worker in catalogue.drained
        if is_drained != self._is_drained:
            log.info("it takes no new work" if is_drained else "it takes new work again")
        self._is_drained = is_drained

    def _why_not_ready(self) -> str:
        if not self._bus.connected:
            return "the message bus is disconnected"
        is_loaded = any(load.state in ("resident", "cached") for load in self._served.loads())
        return "" if is_loaded else "no model is loaded yet"

    def _on_released(self, name: ModelName) -> None:
        """Its blob goes: where memory is unified, nothing may view it any more."""
        if self._is_unified and name in self._roster.models:
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
            models=self._served.loads(),
            router=self._roster.last_router,
            last_assignment=self._roster.last_assignment,
            kv_used_bytes=self._kv.device_used_bytes,
            kv_total_bytes=self._kv.device_total_bytes,
            last_frames=self._outbox.last_frames,
            draining=self._is_drained,
            metrics_address=self._metrics_address,
        )
