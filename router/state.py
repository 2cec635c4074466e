"""What the router knows, as plain data with bounds. The dispatcher alone changes it."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from router.held import HeldRequests
from shared.ids import Incarnation, ModelName, RequestId, WorkerId
from shared.messages import ModelLoad, WorkerBeat

MAX_WORKERS: Final = 4096  # alive at a time; more are ignored
MAX_ASSIGNMENTS: Final = 65_536  # remembered, so that cancels and repeated submits find their worker
MAX_CANCELLED: Final = 16_384  # remembered, so that a submit that comes again stays cancelled

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class Worker:
    """One life of a worker: what it last said, and what it can't have known then."""

    beat: WorkerBeat
    beat_at_s: float
    models: dict[ModelName, ModelLoad]
    num_reported: int  # sequences running and waiting, all models
    unseen: dict[int, ModelName] = field(default_factory=dict)  # assignments after the beat, by ascending number

    @property
    def load(self) -> int:
        """Sequences."""
        return self.num_reported + len(self.unseen)

    def has_work_of(self, model: ModelName) -> bool:
        load = self.models[model]
        return load.num_running + load.num_waiting > 0 or model in self.unseen.values()

    def hear(self, beat: WorkerBeat, now_s: float, router: Incarnation) -> None:
        """A beat of the same life. Its echo covers assignments only if they are ours."""
        self.beat, self.beat_at_s = beat, now_s
        self.models = {load.model: load for load in beat.models}
        self.num_reported = sum(load.num_running + load.num_waiting for load in beat.models)
        if beat.router == router:
            self.unseen = {n: model for n, model in self.unseen.items() if n > beat.last_assignment}


def new_worker(beat: WorkerBeat, now_s: float, router: Incarnation) -> Worker:
    worker = Worker(beat, now_s, {}, 0)
    worker.hear(beat, now_s, router)
    return worker


@dataclass(frozen=True, slots=True)
class Assignment:
    attempt: int
    worker: WorkerId
    incarnation: Incarnation


class Recent(Generic[K, V]):
    """A table of the newest `max_entries`; what is older was most likely over long ago."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, key: K) -> V | None:
        return self._entries.get(key)

    def __setitem__(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def pop(self, key: K) -> V | None:
        return self._entries.pop(key, None)


@dataclass(slots=True)
class State:
    workers: dict[WorkerId, Worker] = field(default_factory=dict)  # alive; MAX_WORKERS at most
    held: HeldRequests = field(default_factory=HeldRequests)  # config.max_held at most
    assignments: Recent[RequestId, Assignment] = field(default_factory=lambda: Recent(MAX_ASSIGNMENTS))
    cancelled: Recent[RequestId, int] = field(default_factory=lambda: Recent(MAX_CANCELLED))  # attempts up to this
    num_assigned: int = 0  # the number of the last Assign
