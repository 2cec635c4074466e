"""Weights and KV of one reservation, and the boundary between them."""

from itertools import pairwise

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gpu_worker.kv.memory import KvRegion
from gpu_worker.kv.store import KvStore
from gpu_worker.memory.arena import ALIGN_BYTES
from gpu_worker.memory.prefix_index import SharedBlocks
from gpu_worker.memory.slab_pool import SlabPool
from gpu_worker.memory.split import SplitLimits
from gpu_worker.sequence import Sequence
from gpu_worker.split import Split
from gpu_worker.weights import ArenaWeights
from gpu_worker.worker_memory import plan_split
from shared.config import WorkerConfig
from shared.errors import ConfigError
from shared.ids import ModelName
from tests.unit.gpu_worker.stand_ins import BLOCK_TOKENS, SmallBlocks, kv_region, submit

SLAB, QUANTUM = 1 << 20, 4096
BLOCK_BYTES = SLAB // 4
NUM_LENT, NUM_SLABS, ORIGIN = 5, 7, QUANTUM
LIMITS = SplitLimits(least_kv_slabs=3, most_kv_slabs=10)


class Device:
    """Five slabs and a bit for weights, seven slabs for KV."""

    def __init__(self, *, keep: bool = True) -> None:
        self.region = torch.zeros(ORIGIN + (NUM_LENT + NUM_SLABS) * SLAB, dtype=torch.uint8)
        self.pool = SlabPool(NUM_SLABS * SLAB, SLAB, QUANTUM, NUM_LENT)
        on_device = KvRegion(SharedBlocks(self.pool, keep=keep), self.region[ORIGIN:])
        self.kv = KvStore(on_device, kv_region(SlabPool(0, SLAB, QUANTUM)), SmallBlocks(unified=False))
        self.shape = self.kv.register(BLOCK_BYTES)
        self.weights = ArenaWeights(self.region, ORIGIN + NUM_LENT * SLAB)
        self.busy: set[ModelName] = set()
        self.split = Split(self.kv, self.weights, LIMITS, ORIGIN, self.busy.__contains__)

    def place(self, name: str, num_slabs: int, evictable: str = "") -> bool:
        blob = torch.empty(num_slabs * SLAB, dtype=torch.uint8)
        placed = self.weights.place(ModelName(name), blob, [ModelName(other) for other in evictable]) is not None
        if placed:
            self.weights.settle(ModelName(name))
        return placed

    def sequence(self, name: str, num_blocks: int) -> Sequence | None:
        """Running, with so many full blocks; None where they don't fit."""
        sequence = Sequence(submit(name, prompt=[ord(name[0])] * (num_blocks * BLOCK_TOKENS + 1)), now_s=0.0)
        if not self.kv.extend(self.shape, sequence, num_blocks * BLOCK_TOKENS):
            return None
        sequence.num_computed_tokens = num_blocks * BLOCK_TOKENS
        return sequence

    def resident(self) -> str:
        return "".join(name for name in "abcd" if self.weights.is_resident(ModelName(name)))


def test_a_model_that_would_evict_one_with_work_gets_slabs_of_kv() -> None:
    device = Device()
    assert device.place("a", 4)
    assert device.place("b", 2, evictable="a")
    assert (device.resident(), len(device.kv.device_slabs)) == ("b", NUM_SLABS), "a has no work"
    device.busy.add(ModelName("b"))
    assert device.place("c", 4, evictable="b")
    assert (device.resident(), len(device.kv.device_slabs)) == ("bc", NUM_SLABS - 1)


def test_kv_in_use_or_promised_is_not_given() -> None:
    device = Device()
    assert device.sequence("many", 4 * NUM_SLABS) is not None
    assert device.place("a", 4)
    assert not device.place("b", 2)
    assert Device().place("c", 8)
    assert not Device().place("c", 10)


def test_a_full_kv_gets_slabs_of_a_model_without_work() -> None:
    device = Device()
    device.busy.add(ModelName("a"))
    assert device.place("a", 4)
    assert device.sequence("full", 4 * NUM_SLABS) is not None
    assert device.sequence("x", 5) is None
    device.busy.clear()
    assert device.sequence("x", 5) is not None
    assert (device.resident(), len(device.kv.device_slabs)) == ("", NUM_SLABS + 2)
    assert device.sequence("y", 4) is not None, "what was taken and not needed, and one slab more"
    assert device.sequence("z", 4) is None, "no more than its most"


def test_weights_on_their_way_stay() -> None:
    device = Device()
    assert device.weights.place(ModelName("a"), torch.empty(4 * SLAB, dtype=torch.uint8), []) is not None
    assert device.sequence("full", 4 * NUM_SLABS) is not None
    assert device.sequence("x", 5) is None
    device.weights.settle(ModelName("a"))
    assert device.sequence("x", 5) is not None


def test_a_model_that_weights_alone_can_never_hold_says_who_is_in_its_way() -> None:
    device = Device(keep=False)
    device.split.expect(ModelName("a"), 8 * SLAB)
    low = [sequence for name in "mnopqrs" if (sequence := device.sequence(name, 4)) is not None]
    assert not device.split.can_place(ModelName("a"))
    leaving = device.split.in_the_way(ModelName("a"))
    assert len(leaving) == 3
    for sequence in leaving:
        device.kv.release(sequence)
    assert device.split.can_place(ModelName("a"))
    assert device.place("a", 8)
    assert all(sequence.block_ids for sequence in set(low) - leaving)


def test_what_was_given_for_a_model_with_work_is_not_taken_before_it_came() -> None:
    device = Device(keep=False)
    device.split.expect(ModelName("a"), 8 * SLAB)
    device.busy.add(ModelName("a"))
    assert device.split.can_place(ModelName("a"))
    assert device.sequence("full", 4 * len(device.kv.device_slabs)) is not None
    assert device.sequence("x", 4) is None
    device.busy.clear()
    assert device.sequence("x", 4) is not None


def test_limits_come_from_the_configuration() -> None:
    assert plan_split(WorkerConfig(slab_bytes=SLAB), 4, 12) == SplitLimits(4, 8)
    assert plan_split(WorkerConfig(slab_bytes=SLAB, policy="static"), 4, 12) == SplitLimits(4, 4)
    config = WorkerConfig(slab_bytes=SLAB, least_kv_memory_bytes=SLAB + 1, most_kv_memory_bytes=6 * SLAB)
    assert plan_split(config, 4, 12) == SplitLimits(2, 6)
    all_equal = 4 * SLAB + SLAB // 2  # none is a whole number of slabs
    config = WorkerConfig(slab_bytes=SLAB, least_kv_memory_bytes=all_equal, most_kv_memory_bytes=all_equal)
    assert plan_split(config, 4, 12) == SplitLimits(4, 4)
    assert plan_split(WorkerConfig(slab_bytes=SLAB, least_kv_memory_bytes=1), 4, 12) == SplitLimits(1, 8)
    with pytest.raises(ConfigError, match=r"least_kv_memory 5 MiB, worker\.kv_memory 4 MiB"):
        plan_split(WorkerConfig(slab_bytes=SLAB, least_kv_memory_bytes=5 * SLAB), 4, 12)


class SplitMachine(RuleBasedStateMachine):
    """Models and sequences come and go in any order; bytes of both are their own at every moment."""

    def __init__(self) -> None:
        super().__init__()
        self.device = Device()
        self.live: list[Sequence] = []
        self.count = 0

    @rule(name=st.sampled_from("abcd"), evictable=st.permutations("abcd"), num=st.integers(0, 4))
    def place(self, name: str, evictable: list[str], num: int) -> None:
        others = "".join(other for other in evictable[:num] if other != name)
        if not self.device.weights.is_resident(ModelName(name)):
            self.device.place(name, 2 + 2 * "abcd".index(name), others)

    @rule(name=st.sampled_from("abcd"))
    def work_comes_or_ends(self, name: str) -> None:
        self.device.busy ^= {ModelName(name)}

    @rule(name=st.sampled_from("abcd"))
    def must_place(self, name: str) -> None:
        self.device.split.expect(ModelName(name), (2 + 2 * "abcd".index(name)) * SLAB)
        self.device.split.can_place(ModelName(name))

    @rule(num_blocks=st.integers(1, 12))
    def come(self, num_blocks: int) -> None:
        self.count += 1
        sequence = self.device.sequence(chr(ord("A") + self.count % 50), num_blocks)
        if sequence is not None:
            self.live.append(sequence)

    @rule(which=st.integers(0, 99))
    def go(self, which: int) -> None:
        if self.live:
            self.device.kv.release(self.live.pop(which % len(self.live)))

    @invariant()
    def weights_and_slabs_tile_the_reservation(self) -> None:
        device, pool = self.device, self.device.pool
        boundary = ORIGIN + pool.first_slab * SLAB
        assert 0 <= boundary - device.weights.total_bytes < ALIGN_BYTES
        assert boundary + pool.total_bytes == device.region.numel()
        assert LIMITS.least_kv_slabs <= pool.num_slabs <= LIMITS.most_kv_slabs
        assert pool.stats().num_free_slabs + pool.stats().held_bytes // SLAB == pool.num_slabs

    @invariant()
    def bytes_have_one_owner(self) -> None:
        device = self.device
        start = device.region.data_ptr()
        ranges = [
            (base.data_ptr() - start, base.data_ptr() - start + base.numel())
            for name in "abcd"
            if (base := device.weights.resident(ModelName(name))) is not None
        ]
        assert all(end <= device.weights.total_bytes for _, end in ranges)
        block_ids = {block_id for sequence in self.live for block_id in sequence.block_ids}
        firsts = [ORIGIN + block_id * QUANTUM for block_id in block_ids]
        assert all(first >= ORIGIN + device.pool.first_slab * SLAB for first in firsts)
        ranges += [(first, first + BLOCK_BYTES) for first in firsts]
        ranges.sort()
        assert all(end <= following for (_, end), (following, _) in pairwise(ranges))


TestSplitMachine = SplitMachine.TestCase
TestSplitMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
