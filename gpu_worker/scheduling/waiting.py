"""Sequences that wait for their first step or, preempted, for their next one."""

from typing import Final, Protocol, TypeVar

from gpu_worker.scheduling.policy import SequenceView, order_key
from shared.fair_line import PROMPT_WEIGHT, FairLine


class Waiting(SequenceView, Protocol):
    place_s: float


S = TypeVar("S", bound=Waiting)

HEAD_START: Final = 2048.0  # weighted tokens: a long prompt does not take turns with a flood chunk by chunk


class WaitingLine(FairLine[S]):
    """Of one model, whose tokens its tenants' counters count. Its owner bounds it by what it admits."""

    def __init__(self) -> None:
        super().__init__(order_key, _tenant, _cost, HEAD_START)

    def start(self, sequence: S) -> None:
        """It runs from now on. If it passed earlier ones of other tenants, it has the first one's place, or it would
        have to give way to those it has just passed."""
        place_s = self.earliest.place_s if self.num_tenants > 1 else sequence.place_s
        self.serve(sequence)
        sequence.place_s = min(sequence.place_s, place_s)


def _tenant(sequence: SequenceView) -> str:
    return sequence.tenant


def _cost(sequence: SequenceView) -> float:
    """What is computed again after a preemption was paid for before."""
    if sequence.num_preemptions:
        return 0.0
    return PROMPT_WEIGHT * (sequence.num_tokens - sequence.num_computed_tokens)
