"""Which sequences have a block of the device, so that a block that moves is re-pointed without a scan."""

from collections.abc import Iterable
from collections.abc import Sequence as List

from gpu_worker.sequence import Sequence


class Holders:
    """Of blocks at rest: those under copy belong to the copy, whoever it is for."""

    def __init__(self) -> None:
        self._of: dict[int, list[Sequence]] = {}  # block id -> those that have it in their block_ids

    def add(self, sequence: Sequence, block_ids: Iterable[int]) -> None:
        for block_id in block_ids:
            self._of.setdefault(block_id, []).append(sequence)

    def remove(self, sequence: Sequence, block_ids: Iterable[int]) -> None:
        for block_id in block_ids:
            sequences = self._of[block_id]
            sequences.remove(sequence)
            if not sequences:
                del self._of[block_id]

    def of(self, block_id: int) -> List[Sequence]:
        return self._of.get(block_id, ())

    def move(self, block_id: int, new_id: int) -> None:
        """Its content lies in another block now."""
        sequences = self._of.pop(block_id, None)
        if sequences is None:
            return
        index = sequences[0].block_ids.index(block_id)
        for sequence in sequences:  # who shares a block has the same ones before it
            assert sequence.block_ids[index] == block_id
            sequence.block_ids[index] = new_id
        self._of[new_id] = sequences
