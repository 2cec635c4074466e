"""Models' weights at hand or away, asked of workers on behalf of an administrator.

An order is of one moment: it changes nothing of what is served, and nobody keeps it.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from gateway.fleet.cluster import Cluster
from gateway.fleet.models import RETRY_AFTER_S, Models
from shared import subjects
from shared.bus import Bus
from shared.errors import BusError, ErrorCode, RequestError
from shared.ids import ModelName, WorkerId
from shared.messages import LoadModel, ModelLoad, OrderRefused, OrderTaken, UnloadModel, WorkerBeat

_ANSWER_S: Final = 5.0
_SERVED: Final = ("resident", "cached")


class Orders:
    """All raise RequestError: nobody has been asked, or not all have taken the order."""

    def __init__(self, bus: Bus, models: Models, cluster: Cluster, clock: Callable[[], float]) -> None:
        self._bus = bus
        self._models = models
        self._cluster = cluster
        self._clock = clock

    async def load(self, name: ModelName, worker: WorkerId | None = None) -> None:
        """worker: None for the one that has least to do."""
        self._models.entry(name)
        chosen = choose_worker(self._beats(worker), name)
        if chosen is None:
            raise self._nobody(name, worker)
        await self._ask(chosen, LoadModel(name))

    async def unload(self, name: ModelName, worker: WorkerId | None = None) -> None:
        """worker: None for all that serve it."""
        if self._models.entry(name).pinned:
            why = f"The model {name!r} is pinned, so its weights stay: unpin it first."
            raise RequestError(ErrorCode.CONFLICT, why, param="model")
        serving = [beat.worker for beat in self._beats(worker) if served_load(beat, name) is not None]
        if not serving:
            raise self._nobody(name, worker)
        await asyncio.gather(*(self._ask(each, UnloadModel(name)) for each in serving))

    def _beats(self, worker: WorkerId | None) -> list[WorkerBeat]:
        beats = [beat for beat, _ in self._cluster.workers(self._clock())]
        return beats if worker is None else [beat for beat in beats if beat.worker == worker]

    def _nobody(self, name: ModelName, worker: WorkerId | None) -> RequestError:
        who = "No worker" if worker is None else f"No worker {worker!r}"
        state = self._cluster.model_state(name)
        why = f"{who} serves the model {name!r} just now; its state is: {state}."
        return RequestError(ErrorCode.UNAVAILABLE, why, retry_after_s=RETRY_AFTER_S)

    async def _ask(self, worker: WorkerId, order: LoadModel | UnloadModel) -> None:
        try:
            answer = await self._bus.request(subjects.worker(worker), order, _ANSWER_S)
        except BusError:
            why = f"The worker {worker!r} has not answered; it may do it all the same."
            raise RequestError(ErrorCode.UNAVAILABLE, why, retry_after_s=RETRY_AFTER_S) from None
        match answer:
            case OrderTaken():
                return
            case OrderRefused(_, reason):
                raise RequestError(ErrorCode.CONFLICT, f"The worker {worker!r} refuses: {reason}.", param="model")
            case _:
                raise RequestError(ErrorCode.INTERNAL, "The worker's answer was not understood.")


def choose_worker(beats: Iterable[WorkerBeat], model: ModelName) -> WorkerId | None:
    """Where it is on the device already; else the one with the fewest sequences that takes new work."""
    found = [(beat, load) for beat in beats if (load := served_load(beat, model)) is not None and not beat.draining]
    if not found:
        return None

    def cost(each: tuple[WorkerBeat, ModelLoad]) -> tuple[bool, int, WorkerId]:
        beat, load = each
        num_sequences = sum(other.num_running + other.num_waiting for other in beat.models)
        return load.state != "resident", num_sequences, beat.worker

    return min(found, key=cost)[0].worker


def served_load(beat: WorkerBeat, model: ModelName) -> ModelLoad | None:
    """Of a model that it serves."""
    return next((load for load in beat.models if load.model == model and load.state in _SERVED), None)
