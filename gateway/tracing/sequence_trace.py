"""What its owner notes of a sequence whose request is traced: plain numbers, one entry for each attempt."""

from dataclasses import dataclass, field

from shared.ids import WorkerId
from shared.messages import RequestFinished
from shared.spans import SpanContext


@dataclass(slots=True)
class Attempt:
    context: SpanContext  # of its span: what router and worker make of it belongs below
    began_at_s: float
    assigned_at_s: float | None = None
    worker: WorkerId | None = None
    ended_at_s: float | None = None  # its end arrived; None: it was lost, or is not wanted any more
    is_lost: bool = False  # with its worker


@dataclass(slots=True, eq=False)
class SequenceTrace:
    root: SpanContext  # of its request
    began_at_s: float
    attempts: list[Attempt] = field(init=False)  # at least one
    finished: RequestFinished | None = None
    finished_at_s: float = 0.0
    error: str = ""  # the code of what ended it; empty: nothing did

    def __post_init__(self) -> None:
        self.attempts = [Attempt(self.root.child(), self.began_at_s)]

    @property
    def traceparent(self) -> str:
        """For whoever runs the newest attempt."""
        return self.attempts[-1].context.header()

    def assigned(self, worker: WorkerId, now_s: float) -> None:
        """A router may say it again."""
        attempt = self.attempts[-1]
        if attempt.assigned_at_s is None:
            attempt.assigned_at_s, attempt.worker = now_s, worker

    def next_attempt(self, now_s: float, num_crashes: int) -> None:
        """num_crashes: so many attempts so far were lost with their worker; the others were handed over."""
        self.attempts[-1].is_lost = num_crashes > sum(attempt.is_lost for attempt in self.attempts)
        self.attempts.append(Attempt(self.root.child(), now_s))

    def attempt_ended(self, now_s: float) -> None:
        self.attempts[-1].ended_at_s = now_s

    def finish(self, finished: RequestFinished, now_s: float, error: str) -> None:
        """Nobody reads it any more."""
        self.finished, self.finished_at_s, self.error = finished, now_s, error
