"""Which worker takes a request. Pure: the dispatcher performs what is decided here."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from router.state import Worker
from shared.errors import ErrorCode
from shared.ids import ModelName, WorkerId
from shared.messages import Submit

BEAT_INTERVAL_S: Final = 0.5
MAX_MISSED_BEATS: Final = 3


@dataclass(frozen=True, slots=True)
class FleetView:
    workers: Collection[Worker]  # alive
    residency_bonus: float  # sequences of load


@dataclass(frozen=True, slots=True)
class Choose:
    worker: WorkerId


@dataclass(frozen=True, slots=True)
class Hold:
    """Nobody can take it yet, and somebody may later."""


@dataclass(frozen=True, slots=True)
class Refuse:
    code: ErrorCode
    message: str


def choose_worker(view: FleetView, request: Submit, now_s: float) -> Choose | Hold | Refuse:
    """The least loaded worker that has the model, where having it on the device is worth `residency_bonus`.

    Refuses only what failed on every worker that knows the model.
    """
    model = request.model
    knowing = [worker for worker in view.workers if model in worker.models]
    ready = [worker for worker in knowing if _takes_work(worker, model, now_s)]
    if ready:
        return Choose(min(ready, key=lambda worker: _cost(worker, model, view.residency_bonus)).beat.worker)
    failures = [worker.models[model].reason for worker in knowing if worker.models[model].state == "failed"]
    if failures and len(failures) == len(knowing):
        return Refuse(ErrorCode.UNAVAILABLE, f"model {model!r} can't run: {failures[0]}")
    return Hold()


def _takes_work(worker: Worker, model: ModelName, now_s: float) -> bool:
    fresh = now_s - worker.beat_at_s < MAX_MISSED_BEATS * BEAT_INTERVAL_S
    return fresh and not worker.beat.draining and worker.models[model].state in ("resident", "cached")


def _cost(worker: Worker, model: ModelName, residency_bonus: float) -> tuple[float, int, WorkerId]:
    """A model with work on a worker is resident there or will be, so its requests keep together either way."""
    at_home = worker.models[model].state == "resident" or worker.has_work_of(model)
    return (worker.load - residency_bonus if at_home else worker.load, worker.load, worker.beat.worker)
