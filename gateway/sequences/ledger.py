"""Every sequence that this gateway has in flight: what arrived, what is missing, what to say to whom.

Messages and instants go in, acts come out. A sequence is in the ledger from `open` to its end or its cancel, and
ends once. Tokens are placed by `first`, so repeats are harmless; (request, attempt) fences off what was given up.

Any message may be lost. A hole in the frame numbers shows at once that one was; whatever else is lost shows by
silence: a sequence that nothing was heard of for QUIET_S is asked for where it should be.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.sequences.sequence import Place, Sequence
from gateway.sequences.tombstones import NEVER_S, Tombstones
from gateway.tracing.sequence_trace import SequenceTrace
from shared import subjects
from shared.errors import ErrorCode, RequestError
from shared.ids import Incarnation, ModelName, OwnerId, RequestId
from shared.messages import (
    Accepted,
    Assigned,
    Cancel,
    EndAck,
    Ended,
    Frame,
    Message,
    Refused,
    Resend,
    RouterBeat,
    Submit,
    WorkerBeat,
)

MAX_CRASHES: Final = 2
QUIET_S: Final = 10.0
BEHIND_S: Final = 1.0  # the same where tokens are known to be missing
_NOWHERE: Final[Mapping[ModelName, int]] = {}


class Publish(NamedTuple):
    subject: str
    message: Message


class Submission(NamedTuple):
    """To be requested of a router until one answers; the answer comes back, or `fail`."""

    submit: Submit
    arrived_at_s: float


Act = Publish | Submission


@dataclass(slots=True)
class _Link:
    """Frames from one life of one worker."""

    heard_at_s: float
    last_number: int = 0  # of the newest frame; they count from 1


class Ledger:
    def __init__(self, owner: OwnerId, worker_dead_s: float, max_tombstones: int) -> None:
        self._owner = owner
        self._worker_dead_s = worker_dead_s
        self._sequences: dict[RequestId, Sequence] = {}  # the pipeline admits at most max_requests
        self._links: dict[Place, _Link] = {}  # the dead are dropped
        self._tombstones = Tombstones(max_tombstones)
        self._router: Incarnation | None = None

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def num_waiting(self) -> int:
        """For their first token."""
        return sum(sequence.first_token_at_s is None for sequence in self._sequences.values())

    def open(
        self, submit: Submit, arrived_at_s: float, wake: Callable[[], None], trace: SequenceTrace | None = None
    ) -> tuple[Sequence, list[Act]]:
        sequence = Sequence(submit, arrived_at_s, wake, heard_at_s=arrived_at_s, trace=trace)
        self._sequences[submit.request_id] = sequence
        return sequence, [_submission(sequence)]

    def cancel(self, request_id: RequestId, now_s: float) -> list[Act]:
        """Its reader left. Nothing happens if it has ended."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return []
        model = sequence.first_submit.model
        self._tombstones.add(request_id, sequence.attempt, model, now_s)
        return [self._cancel(request_id, sequence.attempt, model, sequence.place)]

    def end_all(self, error: RequestError, now_s: float) -> list[Act]:
        """This gateway stops."""
        acts: list[Act] = []
        for request_id, sequence in list(self._sequences.items()):
            acts += self.cancel(request_id, now_s)
            sequence.ended = error
            sequence.wake()
        return acts

    def abandon(self, sequence: Sequence, num_read: int, error: RequestError) -> None:
        """It is cancelled or has ended, and what follows its first `num_read` tokens is not wanted any more."""
        del sequence.output[num_read:]
        sequence.logprobs.clear()
        sequence.ended = error
        sequence.wake()

    def fail(self, request_id: RequestId, attempt: int, error: RequestError) -> None:
        """It could not be submitted."""
        if sequence := self._current(request_id, attempt):
            self._end(sequence, error)

    # --- what routers say ---

    def on_accepted(self, accepted: Accepted, now_s: float) -> None:
        if sequence := self._current(accepted.request_id, accepted.attempt):
            sequence.router = accepted.router
            sequence.heard_at_s = now_s

    def on_assigned(self, assigned: Assigned, now_s: float) -> None:
        if sequence := self._current(assigned.request_id, assigned.attempt):
            sequence.place = Place(assigned.worker, assigned.incarnation)
            sequence.heard_at_s = now_s
            if sequence.trace is not None:
                sequence.trace.assigned(assigned.worker, now_s)
            self._link(sequence.place, now_s)

    def on_refused(self, refused: Refused) -> None:
        error = RequestError(refused.code, refused.message, retry_after_s=refused.retry_after_s)
        self.fail(refused.request_id, refused.attempt, error)

    def on_router_beat(self, beat: RouterBeat) -> list[Act]:
        """A router with a new memory gets what the old one had accepted and not assigned."""
        if beat.router == self._router:
            return []
        self._router = beat.router
        return [_submit_again(s) for s in self._sequences.values() if s.is_held and s.router != beat.router]

    # --- what workers say ---

    def on_frame(self, frame: Frame, now_s: float) -> list[Act]:
        place = Place(frame.worker, frame.incarnation)
        link = self._link(place, now_s)
        has_gap = frame.number > link.last_number + 1
        link.last_number = max(link.last_number, frame.number)
        acts: list[Act] = []
        present: set[RequestId] = set()
        ended: list[RequestId] = []  # their tokens may be forgotten
        for tokens in frame.sequences:
            sequence = self._current(tokens.request_id, tokens.attempt)
            if sequence is None:
                if tokens.ended:
                    ended.append(tokens.request_id)
                elif model := self._tombstones.model_to_cancel(tokens.request_id, tokens.attempt, now_s):
                    acts.append(self._cancel(tokens.request_id, tokens.attempt, model, place))
                continue
            present.add(tokens.request_id)
            sequence.place = place
            if sequence.lacks_what_is_before(tokens):
                if not sequence.is_behind:
                    acts.append(self._ask(sequence, place, now_s))
                continue
            was_behind = sequence.is_behind
            if tokens.num_cached_tokens is not None:
                sequence.num_cached_tokens = tokens.num_cached_tokens
            sequence.take(tokens, now_s)
            if tokens.ended:
                sequence.num_cached_tokens = tokens.ended.num_cached_tokens
                ended.append(tokens.request_id)
                acts += self._on_ended(sequence, tokens.ended, was_behind, now_s)
        if has_gap:
            acts += self._ask_all(place, now_s, exclude=present)
        if ended:
            acts.append(Publish(subjects.worker(place.worker), EndAck(self._owner, tuple(ended))))
        return acts

    def on_worker_beat(
        self, beat: WorkerBeat, now_s: float, fits_elsewhere: Mapping[ModelName, int] = _NOWHERE
    ) -> list[Act]:
        """Shows a worker's former lives as gone, lost frames that no other followed, and that it is being drained.

        fits_elsewhere: tokens of the longest sequence that any other worker would take, of models that one does.
        """
        place = Place(beat.worker, beat.incarnation)
        former = [other for other in self._links if other.worker == place.worker and other != place]
        acts = [act for other in former for act in self._lose(other, now_s)]
        link = self._link(place, now_s)
        newest = beat.last_frames.get(self._owner, 0)
        if newest > link.last_number:
            link.last_number = newest
            acts += self._ask_all(place, now_s)
        if beat.draining:
            acts += self._hand_over(place, now_s, fits_elsewhere)
        return acts

    # --- what silence says ---

    def tick(self, now_s: float) -> list[Act]:
        """Once a second or so."""
        dead = [place for place, link in self._links.items() if now_s - link.heard_at_s > self._worker_dead_s]
        acts = [act for place in dead for act in self._lose(place, now_s)]
        for sequence in self._sequences.values():
            if now_s - sequence.heard_at_s < (BEHIND_S if sequence.is_behind else QUIET_S):
                continue
            if sequence.place is not None:
                acts.append(self._ask(sequence, sequence.place, now_s))
            elif sequence.is_held:
                acts.append(_submit_again(sequence))
        return acts

    def on_reconnected(self) -> None:
        """Anything may have been lost meanwhile: the next tick asks for all."""
        for sequence in self._sequences.values():
            sequence.heard_at_s = NEVER_S

    # --- parts ---

    def _current(self, request_id: RequestId, attempt: int) -> Sequence | None:
        sequence = self._sequences.get(request_id)
        return sequence if sequence is not None and sequence.attempt == attempt else None

    def _link(self, place: Place, now_s: float) -> _Link:
        link = self._links.setdefault(place, _Link(now_s))
        link.heard_at_s = now_s
        return link

    def _on_ended(self, sequence: Sequence, ended: Ended, was_behind: bool, now_s: float) -> list[Act]:
        code = ended.code or ErrorCode.INTERNAL
        # Not cancelled by us, or it would not be here; and who is asked for tokens may have lost them.
        is_lost = ended.reason == "cancelled" or (ended.reason == "error" and was_behind and code is ErrorCode.INTERNAL)
        if is_lost:
            return self._try_again(sequence, now_s)
        is_error = ended.reason == "error"
        self._end(sequence, RequestError(code, ended.message or "The worker failed.") if is_error else ended)
        return []

    def _end(self, sequence: Sequence, ended: Ended | RequestError) -> None:
        submit = sequence.first_submit
        del self._sequences[submit.request_id]
        self._tombstones.add(submit.request_id, sequence.attempt, submit.model)
        sequence.ended = ended
        sequence.wake()

    def _lose(self, place: Place, now_s: float) -> list[Act]:
        del self._links[place]
        return [act for sequence in self._at(place) for act in self._try_again(sequence, now_s)]

    def _hand_over(self, place: Place, now_s: float, fits_elsewhere: Mapping[ModelName, int]) -> list[Act]:
        """What another worker can take goes on there, from the tokens that are here."""
        fitting = [s for s in self._at(place) if s.most_tokens <= fits_elsewhere.get(s.first_submit.model, 0)]
        return [act for sequence in fitting for act in self._go_on(sequence, now_s)]

    def _at(self, place: Place) -> list[Sequence]:
        return [sequence for sequence in self._sequences.values() if sequence.place == place]

    def _try_again(self, sequence: Sequence, now_s: float) -> list[Act]:
        """Its worker is lost. What ends here anyway does not end by that."""
        sequence.num_crashes += 1
        if sequence.num_crashes >= MAX_CRASHES and sequence.end_in_output() is None:
            self._end(sequence, RequestError(ErrorCode.INTERNAL, "The workers that ran this request were lost."))
            return []
        return self._go_on(sequence, now_s)

    def _go_on(self, sequence: Sequence, now_s: float) -> list[Act]:
        """The next attempt, from the tokens that are here."""
        if ended := sequence.end_in_output():
            self._end(sequence, ended)
            return []
        self._tombstones.add(sequence.first_submit.request_id, sequence.attempt, sequence.first_submit.model)
        sequence.next_attempt(now_s)
        return [_submission(sequence)]

    def _ask_all(self, place: Place, now_s: float, exclude: Set[RequestId] = frozenset()) -> list[Act]:
        """A frame from there was lost."""
        return [self._ask(s, place, now_s) for s in self._at(place) if s.first_submit.request_id not in exclude]

    def _ask(self, sequence: Sequence, place: Place, now_s: float) -> Publish:
        """For everything from the first token that is not here. A worker answers always, if only with no tokens."""
        sequence.is_behind = True
        sequence.heard_at_s = now_s
        known = len(sequence.output), len(sequence.prompt_logprobs)
        resend = Resend(self._owner, sequence.first_submit.request_id, sequence.attempt, *known)
        return Publish(subjects.worker(place.worker), resend)

    def _cancel(self, request_id: RequestId, attempt: int, model: ModelName, place: Place | None) -> Publish:
        worker = place.worker if place else None
        return Publish(subjects.request(model), Cancel(request_id, attempt, self._owner, model, worker))


def _submission(sequence: Sequence) -> Submission:
    return Submission(sequence.submit(), sequence.arrived_at_s)


def _submit_again(sequence: Sequence) -> Submission:
    """The same attempt; a router that knows it says again where it is."""
    sequence.router = None
    return _submission(sequence)
