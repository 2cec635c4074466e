"""Every decision of the router: messages and instants go in, messages to send come out. No I/O."""

from typing import Final, NamedTuple, assert_never

from msgspec.structs import replace

from router.held import Held
from router.policy import BEAT_INTERVAL_S, Choose, FleetView, Hold, Refuse, choose_worker
from router.state import MAX_WORKERS, Assignment, State, Worker, new_worker
from shared import subjects
from shared.config import RouterConfig
from shared.errors import ErrorCode
from shared.ids import Incarnation, ModelName, WorkerId
from shared.messages import Assign, Assigned, Cancel, Message, Refused, Submit, WorkerBeat, WorkerCame, WorkerWent

SETTLE_S: Final = 1.2 * BEAT_INTERVAL_S  # a new router hears of every worker before it assigns
RETRY_AFTER_S: Final = 2.0


class Send(NamedTuple):
    subject: str
    message: Message
    since_s: float = 0.0  # of an Assign: when its request was heard of


class Dispatcher:
    """Every accepted request is held, or assigned, or refused. Requests it does not know any more are the owners'."""

    def __init__(self, config: RouterConfig, incarnation: Incarnation, settled_at_s: float) -> None:
        """Until `settled_at_s` everything is held."""
        self._config = config
        self._incarnation = incarnation
        self._settled_at_s = settled_at_s
        self._state = State()

    @property
    def num_workers(self) -> int:
        return len(self._state.workers)

    def num_held(self) -> dict[ModelName, int]:
        return self._state.held.num_by_model()

    # --- what owners say ---

    def submit(self, submit: Submit, now_s: float) -> list[Send]:
        """The same attempt again changes nothing; its owner hears again where it is."""
        cancelled = self._state.cancelled[submit.request_id]
        if cancelled is not None and submit.attempt <= cancelled:
            return [_refused(submit, ErrorCode.CANCELLED, "cancelled before it was assigned")]
        held = self._state.held.get(submit.request_id)
        if held is not None:
            if submit.attempt <= held.submit.attempt:
                return []
            self._state.held.remove(held)
        sends: list[Send] = []
        known = self._state.assignments[submit.request_id]
        if known is not None and submit.attempt < known.attempt:
            return []
        if known is not None and self._is_alive(known):
            if submit.attempt == known.attempt:
                return [_assigned(submit, known)]
            old = Cancel(submit.request_id, known.attempt, submit.owner, submit.model, known.worker)
            sends.append(Send(subjects.worker(known.worker), old))
        return sends + self._place(Held(submit, now_s), now_s)

    def cancel(self, cancel: Cancel) -> list[Send]:
        """Ends the request's attempts up to this one, wherever they are."""
        request_id = cancel.request_id
        self._state.cancelled[request_id] = max(cancel.attempt, self._state.cancelled[request_id] or 0)
        held = self._state.held.get(request_id)
        if held is not None and held.submit.attempt <= cancel.attempt:
            self._state.held.remove(held)
            return [_refused(held.submit, ErrorCode.CANCELLED, "cancelled by its owner")]
        workers = {cancel.worker} if cancel.worker is not None else set()
        known = self._state.assignments[request_id]
        if known is not None and known.attempt <= cancel.attempt:
            workers.add(known.worker)
        if known is None and not workers:  # assigned by an earlier router, perhaps
            workers = {worker for worker, one in self._state.workers.items() if cancel.model in one.models}
        return [Send(subjects.worker(worker), cancel) for worker in sorted(workers)]

    # --- what workers say ---

    def hear(self, beat: WorkerBeat, now_s: float) -> list[Send]:
        sends: list[Send] = []
        worker = self._state.workers.get(beat.worker)
        if worker is not None and worker.beat.incarnation != beat.incarnation:
            sends.append(self._lose(worker, "restarted"))
            worker = None
        if worker is not None:
            worker.hear(beat, now_s, self._incarnation)
        elif len(self._state.workers) < MAX_WORKERS:
            self._state.workers[beat.worker] = new_worker(beat, now_s, self._incarnation)
            sends.append(Send(subjects.EVENT_WORKER_CAME, WorkerCame(beat.worker, beat.incarnation)))
        return sends + self._retry_held(now_s)

    # --- time, and what went wrong ---

    def tick(self, now_s: float) -> list[Send]:
        """Finds the dead and what was held too long."""
        sends: list[Send] = []
        for worker in list(self._state.workers.values()):
            if now_s - worker.beat_at_s > self._config.worker_dead_s:
                sends.append(self._lose(worker, f"no beat for {self._config.worker_dead_s:g} s"))
        while (oldest := self._state.held.oldest()) is not None:
            if now_s - oldest.since_s < self._config.hold_timeout_s:
                break
            self._state.held.remove(oldest)
            sends.append(_unavailable(oldest.submit, f"no worker took it within {self._config.hold_timeout_s:g} s"))
        return sends

    def take_back(self, assign: Assign, now_s: float) -> list[Send]:
        """It could not be sent: hold it for the next beat."""
        self._forget(assign)
        return self._hold(Held(assign.submit, now_s))

    def give_up(self, assign: Assign, reason: str) -> list[Send]:
        """It can never be sent."""
        self._forget(assign)
        return [_refused(assign.submit, ErrorCode.CONTEXT_LENGTH_EXCEEDED, reason)]

    # --- parts ---

    def _place(self, held: Held, now_s: float) -> list[Send]:
        decision = self._decide(held.submit, now_s)
        return self._hold(held) if isinstance(decision, Hold) else self._perform(decision, held, now_s)

    def _retry_held(self, now_s: float) -> list[Send]:
        sends: list[Send] = []
        waiting = self._state.held
        for model in waiting.models():
            while (held := waiting.first(model)) is not None:
                decision = self._decide(held.submit, now_s)
                if isinstance(decision, Hold):  # and so would the others be
                    break
                waiting.serve(held)
                sends += self._perform(decision, held, now_s)
        return sends

    def _decide(self, submit: Submit, now_s: float) -> Choose | Hold | Refuse:
        if now_s < self._settled_at_s:
            return Hold()
        fleet = FleetView(self._state.workers.values(), self._config.residency_bonus)
        return choose_worker(fleet, submit, now_s)

    def _perform(self, decision: Choose | Refuse, held: Held, now_s: float) -> list[Send]:
        match decision:
            case Choose(worker_id):
                aged = replace(held.submit, age_s=held.submit.age_s + now_s - held.since_s)
                return self._assign(aged, worker_id, held.since_s)
            case Refuse(code, message):
                return [_refused(held.submit, code, message, RETRY_AFTER_S)]
            case _:
                assert_never(decision)

    def _assign(self, submit: Submit, worker_id: WorkerId, since_s: float) -> list[Send]:
        """The owner is told first: then it knows the worker when the first frame comes."""
        worker = self._state.workers[worker_id]
        self._state.num_assigned += 1
        number = self._state.num_assigned
        worker.unseen[number] = submit.model
        assignment = Assignment(submit.attempt, worker_id, worker.beat.incarnation)
        self._state.assignments[submit.request_id] = assignment
        return [
            _assigned(submit, assignment),
            Send(subjects.worker(worker_id), Assign(submit, self._incarnation, number), since_s),
        ]

    def _hold(self, held: Held) -> list[Send]:
        submit = held.submit
        num_held = self._state.held.num_of(submit.model, submit.tenant)
        if submit.attempt == 0 and num_held >= self._config.max_held_of_tenant:
            why = f"model {submit.model!r}: too many of your requests wait for a worker already"
            return [_refused(submit, ErrorCode.OVERLOADED, why, RETRY_AFTER_S)]
        if len(self._state.held) >= self._config.max_held:
            return [_unavailable(submit, "no worker can take it, and too many requests wait already")]
        self._state.held.add(held)
        return []

    def _forget(self, assign: Assign) -> None:
        known = self._state.assignments.pop(assign.submit.request_id)
        if known is not None and (worker := self._state.workers.get(known.worker)):
            worker.unseen.pop(assign.number, None)

    def _is_alive(self, assignment: Assignment) -> bool:
        worker = self._state.workers.get(assignment.worker)
        return worker is not None and worker.beat.incarnation == assignment.incarnation

    def _lose(self, worker: Worker, reason: str) -> Send:
        """Owners see it in the beats themselves, and submit its requests again."""
        beat = worker.beat
        del self._state.workers[beat.worker]
        return Send(subjects.EVENT_WORKER_WENT, WorkerWent(beat.worker, beat.incarnation, reason))


def _assigned(submit: Submit, to: Assignment) -> Send:
    message = Assigned(submit.request_id, to.attempt, to.worker, to.incarnation)
    return Send(subjects.owner(submit.owner), message)


def _refused(submit: Submit, code: ErrorCode, message: str, retry_after_s: float | None = None) -> Send:
    refused = Refused(submit.request_id, submit.attempt, code, message, retry_after_s)
    return Send(subjects.owner(submit.owner), refused)


def _unavailable(submit: Submit, why: str) -> Send:
    return _refused(submit, ErrorCode.UNAVAILABLE, f"model {submit.model!r}: {why}", RETRY_AFTER_S)
