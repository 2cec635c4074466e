"""Which models a worker serves: brings in those of its catalogue one by one, lets go of those that left it.

    catalogue -> being loaded -> served -> leaving -> gone          a load may also fail, or be called off

Importing happens in another process, building in a thread; the engine gets a model when it could run a step.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import torch

from gpu_worker.calibration import Expected
from gpu_worker.device.base import Device, KvLayout
from gpu_worker.execution.executor import Executor
from gpu_worker.execution.logprobs import max_scored_tokens
from gpu_worker.execution.module import build_module
from gpu_worker.host_cache.protocol import BlobId, BlobSpec
from gpu_worker.importer.launch import ensure_imported
from gpu_worker.memory.slab_pool import ShapeClass
from gpu_worker.model_choice import ModelChoice
from gpu_worker.model_costs import ModelCosts
from gpu_worker.model_store import ModelStore
from gpu_worker.scheduling.costs import StepShape
from gpu_worker.served_model import ServedModel
from gpu_worker.weights import check_fits
from gpu_worker.worker_memory import QUANTUM_BYTES, WorkerMemory
from shared.catalogue import ModelEntry, read_card, read_manifest
from shared.config import Config
from shared.errors import KottosError, ModelError
from shared.ids import ModelName
from shared.importing import Progress, share_done
from shared.messages import ModelLoad

log = logging.getLogger(__name__)

Calibrate = Callable[[ModelName, Expected], None]
Retire = Callable[[ModelName, Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class Ground:
    """What models are built on."""

    config: Config
    device: Device
    memory: WorkerMemory
    store: ModelStore
    choice: ModelChoice
    costs: ModelCosts
    is_unified: bool


class ServedModels:
    """In the engine's loop. `models` is the engine's: only complete ones are put there, and only it takes them out."""

    def __init__(
        self,
        ground: Ground,
        models: dict[ModelName, ServedModel],
        calibrate: Calibrate,
        retire: Retire,
        on_change: Callable[[], Awaitable[None]],
    ) -> None:
        """calibrate, retire: the engine times a model's steps when it can; lets it finish, then calls back."""
        self._ground = ground
        self._models = models
        self._calibrate = calibrate
        self._retire = retire
        self._on_change = on_change
        self._catalogue: dict[ModelName, ModelEntry] = {}
        self._begun: dict[ModelName, ModelEntry] = {}  # being loaded, served, leaving, or failed
        self._shapes: dict[ModelName, ShapeClass] = {}
        self._failed: dict[ModelName, str] = {}  # reasons
        self._imported_share: dict[ModelName, float] = {}  # of those that are being imported
        self._loading: tuple[ModelName, asyncio.Task[None]] | None = None
        self._changed = asyncio.Event()

    def follow(self, catalogue: Mapping[ModelName, ModelEntry]) -> None:
        """What is to be served from now on; one that changed its content leaves, and comes again."""
        self._catalogue = dict(catalogue)
        for name, entry in list(self._begun.items()):
            if name not in catalogue or catalogue[name].folder != entry.folder:
                self._let_go(name)
        self._mark_pinned()
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed.clear()
            await self._on_change()
            name = next((name for name in self._catalogue if name not in self._begun), None)
            if name is None:
                await self._changed.wait()
                continue
            entry = self._begun[name] = self._catalogue[name]
            async with asyncio.TaskGroup() as tasks:  # a cancel of ours ends the load, too
                task = tasks.create_task(self._load_or_fail(name, entry))
                self._loading = name, task
            self._loading = None
            if task.cancelled():
                self._forget(name)

    def loads(self) -> tuple[ModelLoad, ...]:
        """As beats tell of them."""
        return tuple(self._model_load(name) for name in {**self._catalogue, **self._begun})

    def _let_go(self, name: ModelName) -> None:
        if name in self._models:
            if not self._models[name].is_leaving:
                log.info("model %s leaves", name)
                self._retire(name, lambda: self._forget(name))
        elif self._loading is not None and self._loading[0] == name and not self._loading[1].done():
            self._loading[1].cancel()
        else:
            self._forget(name)

    def _forget(self, name: ModelName) -> None:
        """The engine has nothing of it, if it ever had."""
        ground = self._ground
        ground.store.remove(name)
        ground.choice.release(name)
        ground.costs.close(name)
        if ground.memory.split is not None:
            ground.memory.split.forget(name)
        if (shape := self._shapes.pop(name, None)) is not None:
            ground.memory.kv.unregister(shape)
        self._failed.pop(name, None)
        del self._begun[name]
        self._changed.set()
        log.info("model %s is gone", name)

    def _mark_pinned(self) -> None:
        for name, model in self._models.items():
            model.is_pinned = name in self._catalogue and self._catalogue[name].pinned

    # --- loading --------------------------------------------------------------------------------

    async def _load_or_fail(self, name: ModelName, entry: ModelEntry) -> None:
        try:
            self._models[name] = await self._load(name, entry)
            self._mark_pinned()
        except KottosError as error:
            log.error("model %s is not served: %s", name, error)
            self._failed[name] = str(error)
        except Exception as error:  # transformers may raise anything; the other models are well
            log.exception("model %s is not served", name)
            self._failed[name] = f"{type(error).__name__} while loading it"
        finally:
            self._imported_share.pop(name, None)

    async def _load(self, name: ModelName, entry: ModelEntry) -> ServedModel:
        ground, memory, worker = self._ground, self._ground.memory, self._ground.config.worker
        dtype, layout = worker.dtype, ground.device.layout
        ground.choice.check_own(name)
        await ensure_imported(entry, dtype, ground.config.cache_dir, lambda heard: self._note_import(name, heard))
        self._imported_share.pop(name, None)
        card, manifest = read_card(entry), read_manifest(entry, layout, dtype)
        if card is None or manifest is None:
            raise ModelError(f"{entry.folder} lacks its card or manifest")
        if not ground.is_unified:
            check_fits(name, manifest.blob_bytes, memory.most_weight_bytes)
        torch_dtype: torch.dtype = getattr(torch, dtype)
        block_tokens = ground.device.block_tokens
        shape = self._shapes[name] = memory.kv.register(card.kv.token_bytes(torch_dtype.itemsize) * block_tokens)
        kv_layout = KvLayout(card.kv, torch_dtype, block_tokens, shape.block_bytes, worker.slab_bytes, QUANTUM_BYTES)
        bound = await asyncio.to_thread(build_module, entry.folder, manifest)
        ground.choice.take(name, manifest.blob_bytes)
        executor = Executor(ground.device, bound, memory.kv_region, kv_layout)
        weights_file = entry.weights_folder(layout, dtype).absolute() / "weights.bin"
        ground.store.add(name, BlobSpec(BlobId(manifest.sha256), manifest.blob_bytes, str(weights_file)))
        await ground.store.preload(name)
        max_tokens = min(card.context_length, memory.least_kv_slabs * shape.blocks_per_slab * block_tokens)
        if memory.split is not None:
            memory.split.expect(name, manifest.blob_bytes)
        costs = ground.costs.open(name, weights_file.parent, manifest)
        content_id = f"{entry.folder.name}:{manifest.sha256}"  # weights and texts may change under one name
        log.info("model %s is ready: %d MiB of weights", name, manifest.blob_bytes >> 20)
        if worker.probe_steps and ground.costs.is_guess(name):
            self._calibrate(name, Expected(card.vocab_size, on_measured=lambda: self._keep_costs(name)))
        return ServedModel(
            name, executor, shape, memory.kv, memory.weights, ground.store, max_tokens, costs, content_id,
            max_scored_tokens(card.vocab_size), entry.folder,
        )  # fmt: skip

    def _keep_costs(self, name: ModelName) -> None:
        asyncio.get_running_loop().run_in_executor(None, self._ground.costs.save, name)

    def _note_import(self, name: ModelName, progress: Progress) -> None:
        self._imported_share[name] = share_done(progress)

    def _model_load(self, name: ModelName) -> ModelLoad:
        model, progress = self._models.get(name), self._ground.store.progress(name)
        if model is None:
            if (reason := self._failed.get(name)) is not None:
                return ModelLoad(name, "failed", reason=reason)
            return ModelLoad(name, "loading", progress=self._imported_share.get(name, progress))
        return ModelLoad(
            name,
            "leaving" if model.is_leaving else "resident" if model.is_resident else "cached",
            num_running=len(model.running),
            num_waiting=len(model.waiting) + len(model.unguided),
            max_sequence_tokens=model.max_sequence_tokens,
            reason="" if model.is_resident else model.load_failure,
            progress=progress,
            step_s=model.costs.step_s(_next_step(model)),
        )


def _next_step(model: ServedModel) -> StepShape:
    running = model.running
    return StepShape(max(1, len(running)), sum(sequence.num_tokens for sequence in running))
