"""Who waits for blocks that become free by themselves."""

from typing import Protocol

from gpu_worker.scheduling.policy import SequenceView, order_key


class Claimant(SequenceView, Protocol):
    is_ready: bool


class Claims:
    """Running sequences that found no room while a copy was about to free some. They are not ready meanwhile; until
    they have got their room, nobody who is later in line gets any."""

    def __init__(self) -> None:
        self._waiting: dict[Claimant, None] = {}  # at most all that run

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, sequence: Claimant) -> None:
        self._waiting[sequence] = None
        sequence.is_ready = False

    def settle(self, sequence: Claimant) -> None:
        """It waits no longer, if it did: those behind it may try again."""
        if sequence in self._waiting:
            del self._waiting[sequence]
            sequence.is_ready = True
            self.let_try()

    def let_try(self) -> None:
        """There may be room now; their claims stay until they have got it."""
        for sequence in self._waiting:
            sequence.is_ready = True

    def is_before(self, sequence: Claimant) -> bool:
        """Whether somebody who is earlier in line waits."""
        return any(order_key(other) < order_key(sequence) for other in self._waiting)
