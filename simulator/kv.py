"""Where sequences' KV lies: real bookkeeping of the device's blocks, host memory without end, copies over the link."""

from collections.abc import Callable
from dataclasses import dataclass

from gpu_worker.kv.claims import Claims
from gpu_worker.memory.slab_pool import OutOfBlocks, ShapeClass, SlabPool
from simulator.link import Link
from simulator.sequence import SimulatedSequence


@dataclass(slots=True)
class _Move:
    """KV under copy: its blocks belong to the move until it has ended."""

    sequence: SimulatedSequence | None  # None: it has ended, or another worker has it then
    block_ids: list[int]
    stays: bool  # on the device, at the end
    on_end: Callable[[], None] = lambda: None


class SimulatedKv:
    """gpu_worker/kv/store.py::KvStore says the same of real memory; here nothing is shared or kept."""

    def __init__(self, pool: SlabPool, link: Link, block_tokens: int) -> None:
        self.pool = pool
        self._link = link
        self._block_tokens = block_tokens
        self._claims = Claims()
        self._moves: list[_Move] = []

    def num_free_blocks(self, shape: ShapeClass) -> int:
        """For newcomers: none while a running sequence waits for room."""
        return 0 if self._claims else self.pool.num_free_blocks(shape)

    def extend(self, shape: ShapeClass, sequence: SimulatedSequence, num_tokens: int) -> bool:
        num_missing = self._num_blocks(sequence.num_computed_tokens + num_tokens) - len(sequence.block_ids)
        if num_missing > 0:
            if self._claims.is_before(sequence):
                return False
            block_ids = self.pool.allocate(shape, num_missing)
            if isinstance(block_ids, OutOfBlocks):
                return False
            sequence.block_ids += block_ids
        self._claims.settle(sequence)
        return True

    def is_room_coming(self, sequence: SimulatedSequence) -> bool:
        return any(move.sequence is None or not move.stays for move in self._moves) or self._claims.is_before(sequence)

    def defer(self, sequence: SimulatedSequence) -> None:
        self._claims.add(sequence)

    def enter(self, shape: ShapeClass, sequence: SimulatedSequence, num_tokens: int) -> bool:
        if self._claims:
            return False
        num_known = sequence.num_computed_tokens
        block_ids = self.pool.allocate(shape, self._num_blocks(min(num_known + num_tokens, sequence.num_tokens)))
        if isinstance(block_ids, OutOfBlocks):
            return False
        if num_known:
            self._start(shape, _Move(sequence, block_ids, stays=True), num_known)
        else:
            sequence.block_ids = block_ids
        return True

    def swap_out(self, shape: ShapeClass, sequence: SimulatedSequence) -> None:
        if (move := self._move_of(sequence)) is not None:  # still coming in: host memory has all of it
            move.stays = False
            return
        self._claims.settle(sequence)
        if sequence.num_computed_tokens:
            self._start(shape, _Move(sequence, sequence.block_ids, stays=False), sequence.num_computed_tokens)
        else:
            self._free(shape, sequence)

    def release(self, shape: ShapeClass, sequence: SimulatedSequence) -> None:
        self._claims.settle(sequence)
        if (move := self._move_of(sequence)) is not None:
            move.sequence = None
        else:
            self._free(shape, sequence)

    def send(self, shape: ShapeClass, sequence: SimulatedSequence, on_sent: Callable[[], None]) -> None:
        """Its KV goes to host memory, from where another worker takes it."""
        self._claims.settle(sequence)
        move = _Move(None, sequence.block_ids, stays=False, on_end=on_sent)
        sequence.block_ids = []
        self._start(shape, move, sequence.num_computed_tokens)

    def _free(self, shape: ShapeClass, sequence: SimulatedSequence) -> None:
        self.pool.free(shape, sequence.block_ids)
        sequence.block_ids = []

    def _move_of(self, sequence: SimulatedSequence) -> _Move | None:
        return next((move for move in self._moves if move.sequence is sequence), None)

    def _start(self, shape: ShapeClass, move: _Move, num_tokens: int) -> None:
        self._moves.append(move)
        if move.sequence is not None:
            move.sequence.block_ids = []
            move.sequence.is_ready = False
        num_bytes = self._num_blocks(num_tokens) * shape.block_bytes
        self._link.start(num_bytes, urgent=True, on_end=lambda _: self._end(shape, move))

    def _end(self, shape: ShapeClass, move: _Move) -> None:
        self._moves.remove(move)
        if move.sequence is not None:
            move.sequence.is_ready = True
        if move.sequence is not None and move.stays:
            move.sequence.block_ids = move.block_ids
        else:
            self.pool.free(shape, move.block_ids)
        self._claims.let_try()
        move.on_end()

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_tokens)
