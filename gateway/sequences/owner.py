"""Acts for the ledger: subscribes, beats, submits, publishes. Owns every sequence of this gateway until its end."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from gateway.fleet.cluster import Cluster
from gateway.sequences.ledger import Act, Ledger, Submission
from gateway.sequences.sender import Sender
from gateway.sequences.sequence import Sequence
from gateway.tracing.sequence_trace import SequenceTrace
from shared import log, subjects
from shared.bus import Bus
from shared.errors import BusError, ErrorCode, MessageTooLarge, RequestError
from shared.ids import ModelName, OwnerId, RequestId
from shared.messages import (
    Accepted,
    AnyMessage,
    Assigned,
    Frame,
    OwnerBeat,
    Refused,
    RequestFinished,
    RouterBeat,
    Sampling,
    Submit,
    WorkerBeat,
)
from shared.slo import ServiceLevel

_log = logging.getLogger(__name__)

BEAT_S: Final = 1.0
SUBMIT_TIMEOUT_S: Final = 1.0  # for one answer of a router
SUBMIT_GRACE_S: Final = 2.0  # a router may be restarting; nothing has been promised to the client yet
RESUBMIT_GRACE_S: Final = 15.0  # the client has waited or read already
_RETRY_PAUSE_S: Final = 0.1


class Owner:
    def __init__(
        self,
        owner_id: OwnerId,
        bus: Bus,
        ledger: Ledger,
        cluster: Cluster,
        clock: Callable[[], float],
        on_finished: Callable[[RequestFinished], None] = lambda finished: None,
        ready_models: Callable[[], tuple[ModelName, ...]] = tuple,
    ) -> None:
        self.owner_id = owner_id
        self._bus = bus
        self._ledger = ledger
        self._cluster = cluster
        self._clock = clock
        self._on_finished = on_finished
        self._ready_models = ready_models
        self._sender = Sender(bus)
        self._submits: dict[RequestId, asyncio.Task[None]] = {}  # at most one per sequence
        self._tasks: asyncio.TaskGroup

    @property
    def num_submitting(self) -> int:
        """Sequences that no router has answered for yet."""
        return len(self._submits)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as self._tasks:
            subscriptions = [
                await self._bus.subscribe(subjects.owner(self.owner_id), self._on_message),
                await self._bus.subscribe(subjects.BEAT_WORKER, self._on_message),
                await self._bus.subscribe(subjects.BEAT_ROUTER, self._on_message),
            ]
            self._bus.on_change(self._on_bus_change)
            lasting = [self._tasks.create_task(self._sender.run()), self._tasks.create_task(self._beat())]
            try:
                yield
            finally:
                for task in (*lasting, *self._submits.values()):
                    task.cancel()
                await self._sender.flush()  # the last cancels
                for subscription in subscriptions:
                    await subscription.unsubscribe()

    def open(
        self,
        request_id: RequestId,
        model: ModelName,
        prompt: tuple[int, ...],
        sampling: Sampling,
        level: ServiceLevel,
        arrived_at_s: float,
        wake: Callable[[], None],
        *,
        tenant: str = "",
        cache_salt: str = "",
        trace: SequenceTrace | None = None,
    ) -> Sequence:
        """Submits it; whatever becomes of it shows in the sequence, after a call of `wake`."""
        submit = Submit(
            request_id,
            0,
            self.owner_id,
            model,
            prompt,
            sampling,
            priority=level.priority,
            cache_salt=cache_salt,
            slo=level.slo,
            tenant=tenant,
        )
        sequence, acts = self._ledger.open(submit, arrived_at_s, wake, trace)
        self._perform(acts)
        return sequence

    def cancel(self, request_id: RequestId) -> None:
        """Nobody wants its tokens any more. Nothing happens if it has ended."""
        if task := self._submits.pop(request_id, None):
            task.cancel()  # or the Submit could follow the Cancel
        self._perform(self._ledger.cancel(request_id, self._clock()))

    def abandon(self, sequence: Sequence, num_read: int, error: RequestError) -> None:
        """Its reader is too far behind: it ends with the error after the first `num_read` tokens."""
        self.cancel(sequence.first_submit.request_id)
        self._ledger.abandon(sequence, num_read, error)

    def end_all(self, error: RequestError) -> None:
        """Every reader hears the error, every worker and router is told to stop."""
        for task in self._submits.values():
            task.cancel()
        self._perform(self._ledger.end_all(error, self._clock()))

    def announce(self, finished: RequestFinished) -> None:
        self._on_finished(finished)
        self._sender.put(subjects.EVENT_REQUEST_FINISHED, finished)

    def _on_message(self, message: AnyMessage) -> None:
        now_s = self._clock()
        match message:
            case Frame():
                self._perform(self._ledger.on_frame(message, now_s))
            case Assigned():
                self._ledger.on_assigned(message, now_s)
            case Refused():
                self._ledger.on_refused(message)
            case WorkerBeat():
                self._cluster.on_worker_beat(message, now_s)
                elsewhere = self._cluster.fits_elsewhere(message.worker, now_s) if message.draining else {}
                self._perform(self._ledger.on_worker_beat(message, now_s, elsewhere))
            case RouterBeat():
                self._cluster.on_router_beat(message, now_s)
                self._perform(self._ledger.on_router_beat(message))
            case _:
                _log.warning("unexpected %s on the owner's subjects", type(message).__name__)

    def _on_bus_change(self, connected: bool) -> None:
        if connected:
            self._ledger.on_reconnected()

    def _perform(self, acts: list[Act]) -> None:
        for act in acts:
            if isinstance(act, Submission):
                self._start_submit(act)
            else:
                self._sender.put(act.subject, act.message)

    def _start_submit(self, submission: Submission) -> None:
        request_id = submission.submit.request_id
        if former := self._submits.get(request_id):
            former.cancel()
        with log.about(log.subject() or request_id):
            task = self._tasks.create_task(self._submit(submission.submit, submission.arrived_at_s))
        self._submits[request_id] = task
        task.add_done_callback(lambda done: self._forget_submit(request_id, done))

    def _forget_submit(self, request_id: RequestId, done: asyncio.Task[None]) -> None:
        if self._submits.get(request_id) is done:
            del self._submits[request_id]

    async def _submit(self, submit: Submit, arrived_at_s: float) -> None:
        """Until a router answers or the grace is over; the ledger hears of either."""
        subject = subjects.request(submit.model)
        is_first = submit.attempt == 0 and not submit.output
        give_up_at_s = self._clock() + (SUBMIT_GRACE_S if is_first else RESUBMIT_GRACE_S)
        while True:
            aged = msgspec.structs.replace(submit, age_s=self._clock() - arrived_at_s)
            try:
                reply = await self._bus.request(subject, aged, SUBMIT_TIMEOUT_S)
                break
            except MessageTooLarge:
                error = RequestError(ErrorCode.BODY_TOO_LARGE, "The prompt is too large to be sent to a worker.")
                return self._ledger.fail(submit.request_id, submit.attempt, error)
            except BusError as bus_error:
                if self._clock() >= give_up_at_s:
                    _log.warning("no router took it: %s", bus_error, extra=log.fields(sequence=submit.request_id))
                    error = RequestError(ErrorCode.UNAVAILABLE, "No router is available.", retry_after_s=2.0)
                    return self._ledger.fail(submit.request_id, submit.attempt, error)
            await asyncio.sleep(_RETRY_PAUSE_S)
        if isinstance(reply, Accepted):
            self._ledger.on_accepted(reply, self._clock())
        elif isinstance(reply, Refused):
            self._ledger.on_refused(reply)
        else:
            _log.error("a router answered %s", type(reply).__name__)
            error = RequestError(ErrorCode.INTERNAL, "The router's answer was not understood.")
            self._ledger.fail(submit.request_id, submit.attempt, error)

    async def _beat(self) -> None:
        while True:
            self._sender.put(subjects.BEAT_OWNER, OwnerBeat(self.owner_id, self._ready_models()))
            now_s = self._clock()
            self._cluster.drop_dead(now_s)
            self._perform(self._ledger.tick(now_s))
            await asyncio.sleep(BEAT_S)
