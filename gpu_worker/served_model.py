"""A model that this worker can run: what the scheduler sees of it, and what runs its steps."""

from collections.abc import ValuesView
from pathlib import Path

from gpu_worker.execution.executor import Executor
from gpu_worker.kv.store import KvStore
from gpu_worker.memory.slab_pool import ShapeClass
from gpu_worker.scheduling.measured_costs import LearningCosts
from gpu_worker.scheduling.waiting import WaitingLine
from gpu_worker.sequence import Sequence
from gpu_worker.weights import MappedBlobs, Weights
from shared.ids import ModelName, RequestId


class ServedModel:
    """A ModelView (scheduling/policy.py) over the engine's own state. From its load until it is removed."""

    def __init__(
        self,
        name: ModelName,
        executor: Executor,
        shape: ShapeClass,
        kv: KvStore,
        weights: Weights,
        blobs: MappedBlobs,
        max_sequence_tokens: int,
        costs: LearningCosts,
        content_id: str = "",
        max_scored_tokens: int = 256,
        text_folder: Path = Path(),
    ) -> None:
        self.name = name
        self.executor = executor
        self.shape = shape
        self.max_sequence_tokens = max_sequence_tokens  # context length or KV pool, whichever is less
        self.costs = costs
        self.content_id = content_id or name  # equal: equal tokens have equal KV
        self.max_scored_tokens = max_scored_tokens  # of prompts, in one step: their logits are all in memory
        self.text_folder = text_folder  # with its tokenizer
        self.is_leaving = False  # it takes no new sequences
        self.is_pinned = False  # its weights stay, unless another model has no place else
        self.load_failure = ""  # why an operator's last load of its weights failed; empty: it did not
        self.last_step = 0
        self.num_preemptions = 0
        self.waiting: WaitingLine[Sequence] = WaitingLine()
        self.unguided: set[Sequence] = set()  # in no line: their grammars are being compiled
        self._running: dict[RequestId, Sequence] = {}
        self.kv = kv
        self._weights = weights
        self._blobs = blobs  # in host memory

    @property
    def is_resident(self) -> bool:
        return self._weights.is_resident(self.name)

    @property
    def is_at_hand(self) -> bool:
        return self._weights.is_placed(self.name) or self.name in self._blobs

    @property
    def num_free_blocks(self) -> int:
        return self.kv.num_free_blocks(self.shape)

    @property
    def running(self) -> ValuesView[Sequence]:
        return self._running.values()

    def is_running(self, sequence: Sequence) -> bool:
        return sequence.request_id in self._running

    def start(self, sequence: Sequence) -> None:
        """From the waiting line to the running ones: it has blocks now."""
        self.waiting.start(sequence)
        self._running[sequence.request_id] = sequence

    def stop(self, sequence: Sequence) -> None:
        """Gives back what it holds, wherever it is."""
        if self._running.pop(sequence.request_id, None) is None:
            self.waiting.remove(sequence)
        self.kv.release(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Back to the waiting line; its KV goes to host memory, or is computed again where that is full."""
        del self._running[sequence.request_id]
        sequence.num_preemptions += 1
        self.num_preemptions += 1
        if self.kv.swap_out(self.shape, sequence):
            sequence.num_swaps += 1
        else:
            self.kv.release(sequence)
        self.waiting.add(sequence)
