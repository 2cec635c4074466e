"""A model on a simulated worker: a ModelView (gpu_worker/scheduling/policy.py)."""

from collections.abc import Callable, ValuesView
from dataclasses import dataclass

from gpu_worker.memory.slab_pool import ShapeClass
from gpu_worker.scheduling.costs import KnownCosts, StepCosts
from gpu_worker.scheduling.waiting import WaitingLine
from shared.ids import ModelName, RequestId
from simulator.kv import SimulatedKv
from simulator.sequence import SimulatedSequence
from simulator.weights import SimulatedWeights


@dataclass(frozen=True, slots=True)
class ModelSpec:
    name: ModelName
    costs: StepCosts
    blob_bytes: int
    kv_token_bytes: int
    last_layer: float = 0.0  # its share of a step: in a streamed one, it comes after the last byte


class SimulatedModel:
    """gpu_worker/served_model.py::ServedModel says the same of a real one."""

    def __init__(
        self, spec: ModelSpec, shape: ShapeClass, kv: SimulatedKv, weights: SimulatedWeights, switch_s: float
    ) -> None:
        self.name = spec.name
        self.blob_bytes = spec.blob_bytes
        self.last_layer = spec.last_layer
        self.shape = shape
        self.costs = KnownCosts(spec.costs, switch_s)
        self.last_step = 0
        self.waiting: WaitingLine[SimulatedSequence] = WaitingLine()
        self._running: dict[RequestId, SimulatedSequence] = {}
        self._kv = kv
        self._weights = weights

    @property
    def is_resident(self) -> bool:
        return self._weights.is_resident(self.name)

    @property
    def is_at_hand(self) -> bool:
        return True

    @property
    def num_free_blocks(self) -> int:
        return self._kv.num_free_blocks(self.shape)

    @property
    def running(self) -> ValuesView[SimulatedSequence]:
        return self._running.values()

    def is_running(self, sequence: SimulatedSequence) -> bool:
        return sequence.request_id in self._running

    def start(self, sequence: SimulatedSequence) -> None:
        self.waiting.start(sequence)
        self._running[sequence.request_id] = sequence

    def finish(self, sequence: SimulatedSequence) -> None:
        del self._running[sequence.request_id]
        self._kv.release(self.shape, sequence)

    def send(self, sequence: SimulatedSequence, on_sent: Callable[[], None]) -> None:
        """Another worker goes on with it."""
        del self._running[sequence.request_id]
        self._kv.send(self.shape, sequence, on_sent)

    def preempt(self, sequence: SimulatedSequence) -> None:
        del self._running[sequence.request_id]
        sequence.num_preemptions += 1
        self._kv.swap_out(self.shape, sequence)
        self.waiting.add(sequence)
