"""Where a worker's weights lie and whose prompts it computes, as gateways that watch hear it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from gpu_worker.model_store import ModelStore
from gpu_worker.served_model import ServedModel
from gpu_worker.weights import ArenaWeights, Weights
from shared.ids import Incarnation, ModelName, RequestId, WorkerId
from shared.messages import WorkerState

MAX_PREFILLING: Final = 512  # told of; hardly ever are there so many


@dataclass(frozen=True, slots=True)
class Residency:
    """What the state is read from; nothing of it is changed."""

    worker: WorkerId
    incarnation: Incarnation
    policy: str
    models: Mapping[ModelName, ServedModel]
    store: ModelStore
    weights: Weights
    host_bytes: int  # of the host model cache

    def state(self) -> WorkerState:
        # Where host memory is the device's, weights stay in the cache.
        total_bytes = self.weights.total_bytes if isinstance(self.weights, ArenaWeights) else self.host_bytes
        return WorkerState(
            self.worker,
            self.incarnation,
            self.policy,
            device_total_bytes=total_bytes,
            device_models=self._sizes(name for name, model in self.models.items() if model.is_resident),
            host_total_bytes=self.host_bytes,
            host_models=self._sizes(name for name in self.models if name in self.store),
            prefilling=prefilling(self.models.values()),
        )

    def _sizes(self, names: Iterable[ModelName]) -> dict[ModelName, int]:
        return {name: self.store.blob_bytes(name) for name in names}


def prefilling(models: Iterable[ServedModel]) -> tuple[RequestId, ...]:
    """Sequences that run and have no output yet."""
    running = (sequence for model in models for sequence in model.running)
    found = (sequence.request_id for sequence in running if not sequence.num_output_tokens)
    return tuple(islice(found, MAX_PREFILLING))
