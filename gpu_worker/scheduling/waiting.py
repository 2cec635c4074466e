"""Sequences that wait for their first step or, preempted, for their next one."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

from gpu_worker.scheduling.policy import OrderKey, SequenceView, order_key

S = TypeVar("S", bound=SequenceView)


class WaitingLine(Generic[S]):
    """Ordered by `order_key`, which must not change meanwhile. Its owner bounds it by what it admits."""

    def __init__(self) -> None:
        self._sequences: list[S] = []

    def add(self, sequence: S) -> None:
        insort(self._sequences, sequence, key=order_key)

    def remove(self, sequence: S) -> None:
        """Raises ValueError when it does not wait here."""
        index = self._index(order_key(sequence))
        if index == len(self._sequences) or self._sequences[index] is not sequence:
            raise ValueError(f"sequence {sequence.request_id} is not waiting")
        del self._sequences[index]

    def __iter__(self) -> Iterator[S]:
        return iter(self._sequences)

    def since(self, key: OrderKey) -> Iterator[S]:
        """Those whose keys are not less, in order."""
        return self._between(self._index(key), len(self._sequences))

    def before(self, key: OrderKey) -> Iterator[S]:
        """Those whose keys are less, in order."""
        return self._between(0, self._index(key))

    def _between(self, start: int, stop: int) -> Iterator[S]:
        return (self._sequences[index] for index in range(start, stop))

    def _index(self, key: OrderKey) -> int:
        return bisect_left(self._sequences, key, key=order_key)

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, sequence: object) -> bool:
        return sequence in self._sequences
