"""Moved KV byte for byte under any schedule; no block is used twice, none is lost."""

import hashlib
import itertools
from collections.abc import Callable

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gpu_worker.kv.store import KvMemory, KvStore
from gpu_worker.memory.slab_pool import ShapeClass, SlabPool
from gpu_worker.sequence import Sequence
from tests.unit.gpu_worker.kv.held_copies import HeldDevice
from tests.unit.gpu_worker.stand_ins import BLOCK_TOKENS, submit

QUANTUM, SLAB = 16, 128
SIZES = (16, 48, 80)  # 8, 2, 1 blocks of a slab


def memory(num_slabs: int) -> KvMemory:
    return KvMemory(SlabPool(num_slabs * SLAB, SLAB, QUANTUM), torch.zeros(num_slabs * SLAB, dtype=torch.uint8))


def pattern(sequence: Sequence, index: int, num_bytes: int) -> torch.Tensor:
    key = f"{sequence.request_id} {index}".encode()
    return torch.frombuffer(bytearray(hashlib.shake_128(key).digest(num_bytes)), dtype=torch.uint8)


class StoreMachine(RuleBasedStateMachine):
    """Sequences of three shape classes grow, go, come, end; copies end in any order, some of them badly."""

    def __init__(self) -> None:
        super().__init__()
        self.device = HeldDevice()
        self.on_device, self.in_host = memory(4), memory(3)
        self.kv = KvStore(self.on_device, self.in_host, self.device)
        self.shapes = [self.kv.register(size) for size in SIZES]
        self.names = itertools.count()
        self.shape_of: dict[Sequence, ShapeClass] = {}  # of live sequences

    def pick(self, which: int, condition: Callable[[Sequence], bool]) -> Sequence | None:
        chosen = [sequence for sequence in self.shape_of if condition(sequence)]
        return chosen[which % len(chosen)] if chosen else None

    @rule(shape=st.integers(0, 2))
    def arrive(self, shape: int) -> None:
        self.shape_of[Sequence(submit(f"s{next(self.names)}", prompt=[2] * 999), now_s=0.0)] = self.shapes[shape]

    @rule(which=st.integers(0, 99), num_tokens=st.integers(1, 3 * BLOCK_TOKENS))
    def grow(self, which: int, num_tokens: int) -> None:
        sequence = self.pick(which, lambda s: s.is_ready and not s.host_block_ids)
        if sequence is None:
            return
        shape, before = self.shape_of[sequence], list(sequence.block_ids)
        if not self.kv.extend(shape, sequence, num_tokens):
            assert sequence.block_ids == before
            return
        num_computed_blocks = -(-sequence.num_computed_tokens // BLOCK_TOKENS)
        sequence.num_computed_tokens += num_tokens
        for index in range(num_computed_blocks, len(sequence.block_ids)):
            at = sequence.block_ids[index] * QUANTUM
            self.on_device.region[at : at + shape.block_bytes] = pattern(sequence, index, shape.block_bytes)

    @rule(which=st.integers(0, 99))
    def swap_out(self, which: int) -> None:
        sequence = self.pick(which, lambda s: bool(s.block_ids) or not s.is_ready)
        if sequence is not None:
            num_computed, coming = sequence.num_computed_tokens, not sequence.is_ready
            kept = self.kv.swap_out(self.shape_of[sequence], sequence)
            assert kept or not coming
            assert sequence.num_computed_tokens == num_computed

    @rule(which=st.integers(0, 99), num_tokens=st.integers(1, 2 * BLOCK_TOKENS))
    def swap_in(self, which: int, num_tokens: int) -> None:
        sequence = self.pick(which, lambda s: bool(s.host_block_ids))
        if sequence is not None:
            self.kv.swap_in(self.shape_of[sequence], sequence, num_tokens)

    @rule(which=st.integers(0, 99))
    def end(self, which: int) -> None:
        sequence = self.pick(which, lambda s: True)
        if sequence is not None:
            self.kv.release(self.shape_of.pop(sequence), sequence)

    @precondition(lambda self: self.device.held)
    @rule(which=st.integers(0, 99), well=st.sampled_from([True, True, True, False]))
    def copy_ends(self, which: int, well: bool) -> None:
        copy = self.device.held.pop(which % len(self.device.held))
        if well:
            copy.let()
        else:
            copy.fail()
        self.kv.settle()

    @invariant()
    def bytes_are_where_they_belong(self) -> None:
        for sequence, shape in self.shape_of.items():
            assert not (sequence.block_ids and sequence.host_block_ids)
            num_computed_blocks = -(-sequence.num_computed_tokens // BLOCK_TOKENS)
            for place, block_ids in ((self.on_device, sequence.block_ids), (self.in_host, sequence.host_block_ids)):
                for index, block_id in enumerate(block_ids[:num_computed_blocks]):
                    at = block_id * QUANTUM
                    moved = place.region[at : at + shape.block_bytes]
                    assert torch.equal(moved, pattern(sequence, index, shape.block_bytes))
            if sequence.is_ready:
                assert len(sequence.block_ids or sequence.host_block_ids) >= num_computed_blocks

    def teardown(self) -> None:
        for sequence, shape in self.shape_of.items():
            self.kv.release(shape, sequence)
        for copy in self.device.held:
            copy.let()
        self.kv.settle()
        for place in (self.on_device, self.in_host):
            stats = place.pool.stats()
            assert (stats.used_bytes, stats.num_free_slabs) == (0, stats.num_slabs)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
