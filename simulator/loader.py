"""Brings models' weights to the simulated device: when their turn comes, or ahead of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gpu_worker.scheduling.prefetch import coming_turns, evictable_ahead, next_missing
from shared.ids import ModelName
from simulator.link import Link, Transfer
from simulator.model import SimulatedModel
from simulator.weights import SimulatedWeights

Kind = Literal["resident", "prefetched", "streamed", "copied"]


class Arrival(NamedTuple):
    kind: Kind
    begins_at_s: float  # the step: later than now only where a copy took the device
    arrived_at_s: float  # the last byte, which the step's last layer waits for


@dataclass(frozen=True, slots=True)
class _Coming:
    transfer: Transfer
    ahead: bool  # of its turn


class SimulatedLoader:
    """gpu_worker/loader.py::Loader says the same of real copies."""

    def __init__(
        self,
        link: Link,
        weights: SimulatedWeights,
        models: Mapping[ModelName, SimulatedModel],
        turn_order: Callable[[], list[ModelName]],
        *,
        beside_steps: bool,
    ) -> None:
        """beside_steps: there is a copy engine; without one, a copy takes the device."""
        self._link = link
        self._weights = weights
        self._models = models
        self._turn_order = turn_order
        self._beside_steps = beside_steps
        self._coming: dict[ModelName, _Coming] = {}
        self._prefetched: set[ModelName] = set()  # resident, and not used since
        self._in_use: ModelName | None = None
        self.num_loads = 0  # that arrived
        self.no_place_ahead: ModelName | None = None  # policy.py::WorkerView

    def bring(self, model: ModelName, now_s: float) -> Arrival:
        """The model whose turn it is."""
        self._in_use = model
        was_prefetched = model in self._prefetched
        self._prefetched.discard(model)
        if self._weights.is_resident(model):
            return Arrival("prefetched" if was_prefetched else "resident", now_s, now_s)
        coming = self._coming.get(model)
        if coming is None:
            self._make_place(model)
            if not self._beside_steps:
                self._weights.settle(model)
                self.num_loads += 1
                ends_at_s = now_s + self._models[model].blob_bytes / self._link.bytes_per_s
                return Arrival("copied", ends_at_s, ends_at_s)
            coming = self._start(model, ahead=False)
        coming.transfer.hurry()
        return Arrival("streamed", now_s, self._link.ends_at_s(coming.transfer))

    def prefetch(self) -> None:
        """Begins to bring in the model whose turn comes next, as a step begins."""
        if not self._beside_steps or self._coming:
            return
        self.no_place_ahead = None
        order = self._turn_order()
        model = next_missing(self._models, order, self._in_use)
        evictable = None if model is None else evictable_ahead(self._models, order, self._in_use, model)
        if model is None or evictable is None:
            return
        turns = coming_turns(self._models, order, self._in_use)
        later = [name for name in turns if name != model]
        if self._weights.place(model, self._models[model].blob_bytes, evictable, later):
            self._start(model, ahead=True)
        elif turns[0] == model:
            self.no_place_ahead = model

    def _make_place(self, model: ModelName) -> None:
        blob_bytes = self._models[model].blob_bytes
        order = self._turn_order()
        evictable = [name for name in order if name != model]
        turns = coming_turns(self._models, order, model)
        while not self._weights.place(model, blob_bytes, evictable, turns):
            if not self._coming:
                raise ValueError(f"{blob_bytes} bytes of weights don't fit the device")
            for coming in list(self._coming.values()):  # what came ahead of its turn gives way
                self._link.cancel(coming.transfer)

    def _start(self, model: ModelName, *, ahead: bool) -> _Coming:
        blob_bytes = self._models[model].blob_bytes
        transfer = self._link.start(
            blob_bytes, urgent=not ahead, on_end=lambda arrived: self._on_ended(model, coming, arrived)
        )
        coming = self._coming[model] = _Coming(transfer, ahead)
        return coming

    def _on_ended(self, model: ModelName, coming: _Coming, arrived: bool) -> None:
        del self._coming[model]
        if not arrived:
            self._weights.drop(model)
            return
        self.num_loads += 1
        self._weights.settle(model)
        if coming.ahead and model != self._in_use:
            self._prefetched.add(model)
