"""Room for steps: blocks for KV, and slabs that go from KV to weights and back.

Which weights lie where within their own memory is the loader's business (loader.py).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from gpu_worker.kv.room import Room
from gpu_worker.kv.store import KvStore
from gpu_worker.planned_step import PlannedStep
from gpu_worker.sequence import Sequence
from gpu_worker.served_model import ServedModel
from gpu_worker.split import Split
from shared.ids import ModelName


class StepRoom:
    def __init__(
        self,
        models: Mapping[ModelName, ServedModel],
        kv: KvStore,
        split: Split | None,
        on_device: Callable[[Callable[[], None]], Awaitable[None]],
    ) -> None:
        """split: None where weights and KV share no memory. on_device: runs what takes long, while no step runs."""
        self._models = models
        self._kv = kv
        self._split = split
        self._on_device = on_device
        self._blocks = Room(models, kv)

    async def gather(self) -> None:
        """Between two steps, before the next one is planned, as plans go by the room that there is.

        Blocks move together, and where the first in a line finds no room KV may get slabs from models without work.
        """
        await self._kv.compaction.advance(self._on_device)
        for model in self._models.values():
            if (first := next(iter(model.waiting), None)) is not None:
                self._kv.make_room(model.shape, first.num_tokens)

    def make(self, model: ServedModel, shares: Iterable[tuple[Sequence, int]]) -> PlannedStep | None:
        """shares: sequences and how many of their tokens are to be computed. The step of those that have blocks now.

        It is empty where all of them wait for copies of KV, or gave way to others; None: nothing can run before a copy
        has ended.
        """
        split = self._split
        if split is None or model.is_resident or split.can_place(model.name):
            return PlannedStep(self._blocks.make(model, shares))
        self._empty(split.in_the_way(model.name))
        return PlannedStep([]) if split.can_place(model.name) else None

    def _empty(self, leaving: set[Sequence]) -> None:
        """KV moves out of what a model needs beside what weights have; its turn comes when that is done."""
        for model in self._models.values():
            for sequence in leaving.intersection(model.running):
                model.preempt(sequence)
