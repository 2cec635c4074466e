"""What happens in the fleet, for whoever listens: models that come and go on workers, switches, workers.

Nothing is subscribed to while nobody listens. Whoever listens too slowly misses the oldest news and hears how many.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Literal

import msgspec

from gateway.fleet.backlog import Backlog
from shared import subjects
from shared.bus import Bus
from shared.errors import ErrorCode, RequestError
from shared.ids import Incarnation, ModelName, WorkerId
from shared.messages import AnyMessage, ModelLoad, ModelSwitched, WorkerBeat, WorkerCame, WorkerWent

MAX_LISTENERS: Final = 16
MAX_UNHEARD: Final = 1024
_SUBJECTS: Final = (
    subjects.BEAT_WORKER,
    subjects.EVENT_MODEL_SWITCHED,
    subjects.EVENT_WORKER_CAME,
    subjects.EVENT_WORKER_WENT,
)


class ModelNews(msgspec.Struct, frozen=True, tag="model", tag_field="type"):
    """A model's state on a worker is new, or how far its load is; state null: it is gone from there."""

    worker: WorkerId
    model: ModelName
    state: str | None
    progress: float | None = None  # share done, while it is imported or read from disk
    reason: str = ""


class SwitchNews(msgspec.Struct, frozen=True, tag="switch", tag_field="type"):
    worker: WorkerId
    model: ModelName
    previous: ModelName | None
    kind: str
    copied_bytes: int
    waited_s: float
    overlapped_s: float


class WorkerNews(msgspec.Struct, frozen=True, tag="worker", tag_field="type"):
    worker: WorkerId
    incarnation: Incarnation
    state: Literal["came", "went", "draining", "serving"]
    reason: str = ""


class LostNews(msgspec.Struct, frozen=True, tag="lost", tag_field="type"):
    """So many before these were not heard in time."""

    number: int


News = ModelNews | SwitchNews | WorkerNews | LostNews


class Reporter:
    """Messages in, news out. Pure."""

    def __init__(self) -> None:
        self._models: dict[WorkerId, dict[ModelName, ModelNews]] = {}  # as last told; the gone go
        self._is_draining: dict[WorkerId, bool] = {}

    def news_of(self, message: AnyMessage) -> list[News]:
        match message:
            case WorkerBeat():
                return self._of_beat(message)
            case ModelSwitched(worker, model, previous, kind, copied_bytes, waited_s, overlapped_s):
                return [SwitchNews(worker, model, previous, kind, copied_bytes, waited_s, overlapped_s)]
            case WorkerCame(worker, incarnation):
                return [WorkerNews(worker, incarnation, "came")]
            case WorkerWent(worker, incarnation, reason):
                self._models.pop(worker, None)
                self._is_draining.pop(worker, None)
                return [WorkerNews(worker, incarnation, "went", reason)]
            case _:
                return []

    def _of_beat(self, beat: WorkerBeat) -> list[News]:
        """What differs from the last beat; of the first one, all."""
        worker = beat.worker
        told, now = self._models.get(worker, {}), {load.model: _model_news(worker, load) for load in beat.models}
        news: list[News] = [each for name, each in now.items() if told.get(name) != each]
        news += [ModelNews(worker, name, None) for name in told if name not in now]
        if beat.draining != self._is_draining.get(worker, False):
            news.append(WorkerNews(worker, beat.incarnation, "draining" if beat.draining else "serving"))
        self._models[worker], self._is_draining[worker] = now, beat.draining
        return news


class Listener:
    def __init__(self) -> None:
        self._reporter = Reporter()
        self._unheard: Backlog[News] = Backlog(MAX_UNHEARD)

    def on_message(self, message: AnyMessage) -> None:
        self._unheard.put(self._reporter.news_of(message))

    async def next(self, timeout_s: float) -> list[News]:
        """Empty after that time."""
        num_lost, news = await self._unheard.take(timeout_s)
        return [LostNews(num_lost), *news] if num_lost else news


class FleetNews:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._num_listeners = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Listener]:
        """Raises RequestError where too many listen."""
        if self._num_listeners >= MAX_LISTENERS:
            raise RequestError(ErrorCode.OVERLOADED, f"{MAX_LISTENERS} listen already.", retry_after_s=10.0)
        self._num_listeners += 1
        listener = Listener()
        try:
            async with AsyncExitStack() as stack:
                for subject in _SUBJECTS:
                    subscription = await self._bus.subscribe(subject, listener.on_message)
                    stack.push_async_callback(subscription.unsubscribe)
                yield listener
        finally:
            self._num_listeners -= 1


def _model_news(worker: WorkerId, load: ModelLoad) -> ModelNews:
    return ModelNews(worker, load.model, load.state, load.progress, load.reason)
