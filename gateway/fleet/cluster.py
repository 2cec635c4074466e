"""What the beats of workers and routers tell: model states, context lengths, readiness. A copy that informs only."""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from shared.ids import ModelName, WorkerId
from shared.messages import ModelLoad, RouterBeat, WorkerBeat

FRESH_WORKER_S: Final = 2.0  # workers beat twice a second
FRESH_ROUTER_S: Final = 4.0  # routers once

ModelState = Literal["resident", "cached", "loading", "failed"]
_SERVED: Final = ("resident", "cached")
_BEST_FIRST: Final[tuple[ModelState, ...]] = ("resident", "cached", "loading", "failed")


class _Heard(NamedTuple):
    beat: WorkerBeat
    at_s: float


class Cluster:
    def __init__(self, worker_dead_s: float) -> None:
        self._worker_dead_s = worker_dead_s
        self._workers: dict[WorkerId, _Heard] = {}  # bounded: the dead are dropped
        self._router_at_s = float("-inf")
        self._router_beat: RouterBeat | None = None

    def on_worker_beat(self, beat: WorkerBeat, now_s: float) -> None:
        self._workers[beat.worker] = _Heard(beat, now_s)

    def on_router_beat(self, beat: RouterBeat, now_s: float) -> None:
        self._router_at_s = now_s
        self._router_beat = beat

    def drop_dead(self, now_s: float) -> None:
        limit_s = now_s - self._worker_dead_s
        self._workers = {worker: heard for worker, heard in self._workers.items() if heard.at_s >= limit_s}

    def workers(self, now_s: float) -> list[tuple[WorkerBeat, float]]:
        """Last beats of those that are alive, and seconds since then."""
        return [(heard.beat, now_s - heard.at_s) for heard in self._workers.values()]

    def loads_of(self, model: ModelName) -> dict[WorkerId, ModelLoad]:
        """As each worker that is alive tells of it."""
        loads = {worker: heard.beat.models for worker, heard in self._workers.items()}
        return {worker: load for worker, found in loads.items() for load in found if load.model == model}

    def states(self) -> dict[ModelName, tuple[ModelState, float | None]]:
        """As `model_state` and `progress` of every model that a worker tells of, in one look at all beats."""
        loads: dict[ModelName, list[ModelLoad]] = {}
        for heard in self._workers.values():
            for load in heard.beat.models:
                loads.setdefault(load.model, []).append(load)
        return {model: (_best_state(of_model), _progress(of_model)) for model, of_model in loads.items()}

    def model_state(self, model: ModelName) -> ModelState:
        """The best state on any worker; loading while nobody reports it."""
        return _best_state(self._loads(model))

    def failure(self, model: ModelName) -> str:
        """Why the model can't run, as far as a worker says so."""
        return next((load.reason for load in self._loads(model) if load.state == "failed"), "")

    def progress(self, model: ModelName) -> float | None:
        """How far the worker is that has most of it, while it is imported or read from disk."""
        return _progress(self._loads(model))

    def max_sequence_tokens(self, model: ModelName) -> int:
        """The longest sequence that fits some worker; 0: nobody knows yet."""
        return max((load.max_sequence_tokens for load in self._loads(model)), default=0)

    def fits_elsewhere(self, worker: WorkerId, now_s: float) -> dict[ModelName, int]:
        """Tokens of the longest sequence that fits every other worker that takes work for the model, if any does."""
        fitting: dict[ModelName, int] = {}
        for heard in self._workers.values():
            if heard.beat.worker == worker or heard.beat.draining or now_s - heard.at_s > FRESH_WORKER_S:
                continue
            for load in heard.beat.models:
                if load.state in _SERVED:
                    least = fitting.get(load.model, load.max_sequence_tokens)
                    fitting[load.model] = min(least, load.max_sequence_tokens)
        return fitting

    def metrics_addresses(self) -> list[tuple[str, str, str]]:
        """Of who says where: service, name, host:port."""
        beats = [heard.beat for heard in self._workers.values()]
        found = [("worker", str(beat.worker), beat.metrics_address) for beat in beats]
        if self._router_beat is not None:
            found.append(("router", "router", self._router_beat.metrics_address))
        return [each for each in found if each[2]]

    def not_ready(self, now_s: float) -> str:
        """Why a request would not be served now; empty when one would."""
        if now_s - self._router_at_s > FRESH_ROUTER_S:
            return "no router is alive"
        fresh = [heard.beat for heard in self._workers.values() if now_s - heard.at_s <= FRESH_WORKER_S]
        if not fresh:
            return "no worker is alive"
        if not any(load.state in ("resident", "cached") for beat in fresh for load in beat.models):
            return "no model is loaded yet"
        return ""

    def _loads(self, model: ModelName) -> list[ModelLoad]:
        return list(self.loads_of(model).values())


def _best_state(loads: Iterable[ModelLoad]) -> ModelState:
    states = {load.state for load in loads}
    return next((state for state in _BEST_FIRST if state in states), "loading")


def _progress(loads: Iterable[ModelLoad]) -> float | None:
    return max((load.progress for load in loads if load.progress is not None), default=None)
