"""A ledger at work: sequences opened and assigned, frames heard, time at hand."""

from dataclasses import dataclass, field

from gateway.sequences.ledger import Act, Ledger, Publish, Submission
from gateway.sequences.sequence import Sequence
from shared.ids import Incarnation, RequestId
from shared.messages import Accepted, Message, Resend, SequenceTokens
from tests.unit.gateway.builders import LIFE, OWNER, ROUTER, assigned, beat, frame, submit

DEAD_S = 10.0
R = RequestId("r")


@dataclass
class Desk:
    """A ledger with a clock, and what it has said so far."""

    now_s: float = 100.0
    ledger: Ledger = field(default_factory=lambda: Ledger(OWNER, DEAD_S, 16))
    num_wakes: int = 0

    def open(self, request: str = "r", **about: int) -> Sequence:
        sequence, acts = self.ledger.open(submit(request, **about), self.now_s, self._wake)  # type: ignore[arg-type]
        assert acts == [Submission(sequence.first_submit, self.now_s)]
        return sequence

    def running(self, request: str = "r", **about: int) -> Sequence:
        """Assigned to WORKER."""
        sequence = self.open(request, **about)
        self.ledger.on_accepted(Accepted(RequestId(request), 0, ROUTER), self.now_s)
        self.ledger.on_assigned(assigned(request), self.now_s)
        return sequence

    def frame(self, number: int, *sequences: SequenceTokens, life: Incarnation = LIFE) -> list[Message]:
        return published(self.ledger.on_frame(frame(number, *sequences, life=life), self.now_s))

    def _wake(self) -> None:
        self.num_wakes += 1


def published(acts: list[Act]) -> list[Message]:
    assert all(isinstance(act, Publish) for act in acts)
    return [act.message for act in acts if isinstance(act, Publish)]


def resend(first: int, request: str = "r", attempt: int = 0) -> Resend:
    return Resend(OWNER, RequestId(request), attempt, first)


def lose_by_new_life(desk: Desk) -> list[Act]:
    return desk.ledger.on_worker_beat(beat(life=Incarnation("life-2")), desk.now_s)
