"""KV byte for byte under any schedule of moves and sharing; no block is used twice, none is lost."""

import hashlib
import itertools
from collections.abc import Callable

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gpu_worker.kv.store import KvStore
from gpu_worker.memory.slab_pool import ShapeClass, SlabPool
from gpu_worker.sequence import Sequence
from tests.unit.gpu_worker.kv.held_copies import HeldDevice
from tests.unit.gpu_worker.stand_ins import BLOCK_TOKENS, emptiest_that_fits, kv_region, submit

QUANTUM, SLAB = 16, 128
SIZES = (16, 48, 80)  # 8, 2, 1 blocks of a slab


class StoreMachine(RuleBasedStateMachine):
    """Sequences of three models, many of equal beginnings, come, grow, give way, end; copies end in any order.

    The bytes of a block say of which model's tokens it is.
    """

    keep = False
    num_slabs = (4, 3)

    def __init__(self) -> None:
        super().__init__()
        self.device = HeldDevice()
        self.pools = [SlabPool(num_slabs * SLAB, SLAB, QUANTUM) for num_slabs in self.num_slabs]
        self.regions = [kv_region(pool, keep=self.keep) for pool in self.pools]
        self.regions[0].blocks.slab_to_empty = lambda: emptiest_that_fits(self.pools[0])  # type: ignore[method-assign]
        self.kv = KvStore(self.regions[0], self.regions[1], self.device)
        self.shapes = [self.kv.register(size) for size in SIZES]
        self.names = itertools.count()
        self.shape_of: dict[Sequence, ShapeClass] = {}  # of live sequences
        self.running: set[Sequence] = set()

    def pick(self, which: int, condition: Callable[[Sequence], bool]) -> Sequence | None:
        chosen = [sequence for sequence in self.shape_of if condition(sequence)]
        return chosen[which % len(chosen)] if chosen else None

    def content(self, sequence: Sequence, index: int) -> torch.Tensor:
        end = min((index + 1) * BLOCK_TOKENS, sequence.num_computed_tokens)
        shape = self.shape_of[sequence]
        known = f"{shape} {sequence.token_ids[:end]}".encode()
        return torch.frombuffer(bytearray(hashlib.shake_128(known).digest(shape.block_bytes)), dtype=torch.uint8)

    @rule(model=st.integers(0, 2), tokens=st.lists(st.integers(0, 1), min_size=2, max_size=30))
    def come(self, model: int, tokens: list[int]) -> None:
        sequence = Sequence(submit(f"s{next(self.names)}", model=f"m{model}", prompt=tokens), now_s=0.0)
        self.shape_of[sequence] = self.shapes[model]
        self.enter(sequence, num_tokens=8)

    @rule(which=st.integers(0, 99), num_tokens=st.integers(1, 2 * BLOCK_TOKENS))
    def come_in(self, which: int, num_tokens: int) -> None:
        sequence = self.pick(which, lambda s: s not in self.running and s.is_ready)
        if sequence is not None:
            self.enter(sequence, num_tokens)

    def enter(self, sequence: Sequence, num_tokens: int) -> None:
        before = (
            list(sequence.host_block_ids),
            sequence.num_computed_tokens,
            [r.blocks.used_bytes for r in self.regions],
        )
        if self.kv.enter(self.shape_of[sequence], sequence, num_tokens):
            self.running.add(sequence)
            assert before[1] <= sequence.num_computed_tokens < sequence.num_tokens
        else:
            after = (sequence.host_block_ids, sequence.num_computed_tokens, [r.blocks.used_bytes for r in self.regions])
            assert after == before

    @rule(which=st.integers(0, 99), num_tokens=st.integers(1, 3 * BLOCK_TOKENS))
    def step(self, which: int, num_tokens: int) -> None:
        sequence = self.pick(which, lambda s: s in self.running and s.is_ready)
        if sequence is None:
            return
        num_tokens = min(num_tokens, sequence.num_tokens - 1 - sequence.num_computed_tokens)
        shape, first = self.shape_of[sequence], sequence.num_computed_tokens // BLOCK_TOKENS
        if not num_tokens or not self.kv.extend(shape, sequence, num_tokens):
            return
        sequence.num_computed_tokens += num_tokens
        for index in range(first, -(-sequence.num_computed_tokens // BLOCK_TOKENS)):
            at = sequence.block_ids[index] * QUANTUM
            self.regions[0].region[at : at + shape.block_bytes] = self.content(sequence, index)

    @rule(which=st.integers(0, 99))
    def give_way(self, which: int) -> None:
        sequence = self.pick(which, self.running.__contains__)
        if sequence is None:
            return
        num_computed = sequence.num_computed_tokens
        if self.kv.swap_out(self.shape_of[sequence], sequence):
            assert sequence.num_computed_tokens == num_computed
        else:
            self.kv.release(sequence)
            assert sequence.num_computed_tokens == 0
        self.running.remove(sequence)

    @rule(which=st.integers(0, 99))
    def end(self, which: int) -> None:
        sequence = self.pick(which, lambda s: True)
        if sequence is not None:
            del self.shape_of[sequence]
            self.running.discard(sequence)
            self.kv.release(sequence)

    @precondition(lambda self: self.device.held)
    @rule(which=st.integers(0, 99), well=st.sampled_from([True, True, True, False]))
    def copy_ends(self, which: int, well: bool) -> None:
        copy = self.device.held.pop(which % len(self.device.held))
        if well:
            copy.let()
        else:
            copy.fail()
        self.kv.settle()

    @rule(most_bytes=st.sampled_from([1, 48, 1000]), arrived=st.sampled_from([True, True, True, False]))
    def compact(self, most_bytes: int, arrived: bool) -> None:
        num_free = [self.regions[0].blocks.num_free_blocks(shape) for shape in self.shapes]
        moves = self.kv.compaction.begin(most_bytes)
        if moves is None:
            return
        if arrived:
            moves.copy()
        self.kv.compaction.end(moves, arrived=arrived)
        now_free = [self.regions[0].blocks.num_free_blocks(shape) for shape in self.shapes]
        assert not arrived or all(now >= before for now, before in zip(now_free, num_free, strict=True))

    @invariant()
    def bytes_are_where_they_belong(self) -> None:
        """What is free holds garbage, a new one each time."""
        for memory in self.regions:
            free = torch.ones_like(memory.region, dtype=torch.bool)
            for block_id, block in memory.blocks._blocks.items():
                free[block_id * QUANTUM :][: block.shape.block_bytes] = False
            memory.region[free] = next(self.names) % 251
        for sequence, shape in self.shape_of.items():
            assert not (sequence.block_ids and sequence.host_block_ids)
            num_blocks = -(-sequence.num_computed_tokens // BLOCK_TOKENS)
            assert not sequence.is_ready or len(sequence.block_ids or sequence.host_block_ids) >= num_blocks
            for memory, block_ids in zip(self.regions, (sequence.block_ids, sequence.host_block_ids), strict=True):
                for index, block_id in enumerate(block_ids[:num_blocks]):
                    found = memory.region[block_id * QUANTUM :][: shape.block_bytes]
                    assert torch.equal(found, self.content(sequence, index))

    @invariant()
    def blocks_under_copy_are_in_use(self) -> None:
        for copy in self.device.held:
            for region, at in copy.ends:
                memory = next(memory for memory in self.regions if memory.region is region)
                assert memory.blocks._blocks[at // QUANTUM].num_users > 0

    @invariant()
    def a_block_that_is_written_has_one_sequence(self) -> None:
        written = [
            block_id
            for sequence in self.shape_of
            for block_id in sequence.block_ids[sequence.num_computed_tokens // BLOCK_TOKENS :]
        ]
        assert len(written) == len(set(written))
        shared = {
            block_id
            for sequence in self.shape_of
            for block_id in sequence.block_ids[: sequence.num_computed_tokens // BLOCK_TOKENS]
        }
        assert not shared & set(written)

    @invariant()
    def free_kept_and_used_are_all(self) -> None:
        for pool, memory in zip(self.pools, self.regions, strict=True):
            assert memory.blocks.used_bytes + memory.blocks.kept_bytes == pool.used_bytes <= pool.total_bytes

    def teardown(self) -> None:
        for sequence in self.shape_of:
            self.kv.release(sequence)
        while self.device.held:
            self.device.held.pop().let()
            self.kv.settle()
        for pool, memory in zip(self.pools, self.regions, strict=True):
            assert memory.blocks.used_bytes == 0
            assert all(memory.blocks.num_free_blocks(shape) == pool.capacity_blocks(shape) for shape in self.shapes)
            assert self.keep or pool.stats().num_free_slabs == pool.num_slabs


class KeepingMachine(StoreMachine):
    keep = True


class SparseMachine(KeepingMachine):
    """Many sequences at first, of which some leave: there is something to compact."""

    num_slabs = (12, 3)

    @initialize(lives=st.integers(0, (1 << 32) - 1))
    def many_come(self, lives: int) -> None:
        """Two bits of each: of which model it is, and whether it stays."""
        for number in range(16):
            self.come(lives >> 2 * number & 1, [number] * (2 + number % 9))
        for which in range(len(self.shape_of)):
            self.step(which, num_tokens=2 * BLOCK_TOKENS)
        for number, sequence in enumerate(list(self.shape_of)):
            if not lives >> 2 * number & 2:
                self.kv.release(sequence)
                del self.shape_of[sequence]
                self.running.discard(sequence)


TestStoreMachine = StoreMachine.TestCase
TestKeepingMachine = KeepingMachine.TestCase
TestSparseMachine = SparseMachine.TestCase
TestStoreMachine.settings = TestKeepingMachine.settings = settings(
    max_examples=100, stateful_step_count=60, deadline=None
)
TestSparseMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
