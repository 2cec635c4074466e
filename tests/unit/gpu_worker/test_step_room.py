"""What a model finds when its turn comes: blocks, or that it has to wait; and what a line gets before it is planned."""

from collections.abc import Callable
from typing import Any, cast

import torch

from gpu_worker.kv.memory import KvRegion
from gpu_worker.kv.store import KvStore
from gpu_worker.memory.prefix_index import SharedBlocks
from gpu_worker.memory.slab_pool import SlabPool
from gpu_worker.memory.split import SplitLimits
from gpu_worker.planned_step import PlannedStep
from gpu_worker.sequence import Sequence
from gpu_worker.served_model import ServedModel
from gpu_worker.split import Split
from gpu_worker.step_room import StepRoom
from gpu_worker.weights import ArenaWeights
from shared.ids import ModelName
from tests.unit.gpu_worker.kv.held_copies import HeldDevice
from tests.unit.gpu_worker.stand_ins import BLOCK_TOKENS, COSTS, emptiest_that_fits, kv_region, submit

SLAB, QUANTUM = 2 << 20, 4096
BLOCKS_PER_SLAB = 4
NUM_WEIGHT_SLABS, NUM_KV_SLABS = 2, 4
LIMITS = SplitLimits(least_kv_slabs=2, most_kv_slabs=6)


async def at_once(work: Callable[[], None]) -> None:
    work()


class Worker:
    """Weights of two slabs, KV of four; `small` has a slab of weights, `large` three. Copies wait for the test."""

    def __init__(self, num_host_slabs: int = 8) -> None:
        num_slabs = NUM_WEIGHT_SLABS + NUM_KV_SLABS
        region = torch.zeros(num_slabs * SLAB, dtype=torch.uint8)
        self.pool = SlabPool(NUM_KV_SLABS * SLAB, SLAB, QUANTUM, NUM_WEIGHT_SLABS)
        on_device = KvRegion(SharedBlocks(self.pool, keep=False), region)
        self.device = HeldDevice()
        host = kv_region(SlabPool(num_host_slabs * SLAB, SLAB, QUANTUM), keep=False)
        self.kv = KvStore(on_device, host, self.device)
        self.weights = ArenaWeights(region, NUM_WEIGHT_SLABS * SLAB)
        shape, nothing = self.kv.register(SLAB // BLOCKS_PER_SLAB), cast(Any, None)
        self.small, self.large = (
            ServedModel(ModelName(name), nothing, shape, self.kv, self.weights, nothing, 1000, COSTS)
            for name in ("small", "large")
        )
        models = {model.name: model for model in (self.small, self.large)}
        self.split = Split(self.kv, self.weights, LIMITS, 0, lambda name: bool(models[name].running))
        self.split.expect(self.small.name, SLAB)
        self.split.expect(self.large.name, 3 * SLAB)
        self.room = StepRoom(models, self.kv, self.split, at_once)

    def bring(self, model: ModelName, num_slabs: int) -> None:
        assert self.weights.place(model, torch.empty(num_slabs * SLAB, dtype=torch.uint8), []) is not None
        self.weights.settle(model)

    def enters(self, model: ServedModel, name: str, num_blocks: int) -> Sequence:
        sequence = Sequence(submit(name, prompt=[ord(name)] * (num_blocks * BLOCK_TOKENS)), now_s=0.0)
        model.waiting.add(sequence)
        return sequence

    def runs(self, model: ServedModel, name: str, num_blocks: int) -> Sequence:
        """All its blocks but the last token computed."""
        sequence = self.enters(model, name, num_blocks)
        assert self.room.make(model, [(sequence, sequence.num_tokens)]) == PlannedStep(
            [(sequence, sequence.num_tokens)]
        )
        sequence.num_computed_tokens = sequence.num_tokens - 1
        return sequence

    def copies_end(self) -> None:
        for copy in self.device.held:
            copy.let()
        self.device.held.clear()
        self.kv.settle()


def test_sequences_leave_what_the_weights_of_a_turn_need() -> None:
    worker = Worker()
    worker.bring(worker.small.name, 1)
    running = [worker.runs(worker.small, name, BLOCKS_PER_SLAB) for name in "abcd"]
    waiting = worker.enters(worker.large, "z", 1)
    assert worker.room.make(worker.large, [(waiting, 4)]) is None, "what lies there is under copy"
    [left] = [sequence for sequence in running if sequence not in worker.small.running]
    assert left in worker.small.waiting and worker.kv.device_used_bytes == 4 * SLAB
    worker.copies_end()
    assert left.host_block_ids and len(worker.kv.device_slabs) == NUM_KV_SLABS
    assert worker.room.make(worker.large, [(waiting, 4)]) == PlannedStep([]), "others have the rest"
    assert len(worker.kv.device_slabs) == NUM_KV_SLABS - 1
    worker.small.stop(running[0] if running[0] is not left else running[1])
    assert worker.room.make(worker.large, [(waiting, 4)]) == PlannedStep([(waiting, 4)])


def test_where_nothing_is_copied_the_turn_is_planned_again_at_once() -> None:
    worker = Worker(num_host_slabs=0)
    worker.bring(worker.small.name, 1)
    for name in "abcd":
        worker.runs(worker.small, name, BLOCKS_PER_SLAB)
    waiting = worker.enters(worker.large, "z", 1)
    assert worker.room.make(worker.large, [(waiting, 4)]) == PlannedStep([])
    assert len(worker.small.running) == 3
    assert len(worker.kv.device_slabs) == NUM_KV_SLABS - 1


def test_who_is_resident_needs_no_place() -> None:
    worker = Worker()
    worker.bring(worker.small.name, 1)
    for name in "abcd":
        worker.runs(worker.small, name, BLOCKS_PER_SLAB)
    running = next(iter(worker.small.running))
    assert worker.room.make(worker.small, [(running, 1)]) == PlannedStep([(running, 1)])


async def test_the_first_of_a_line_gets_slabs_of_weights_without_work() -> None:
    worker = Worker()
    worker.bring(worker.large.name, 2)
    running = [worker.runs(worker.small, name, BLOCKS_PER_SLAB) for name in "abcd"]
    worker.enters(worker.small, "e", BLOCKS_PER_SLAB)
    await worker.room.gather()
    assert len(worker.kv.device_slabs) == NUM_KV_SLABS + 1
    assert not worker.large.is_resident and len(worker.small.running) == len(running)


async def test_blocks_move_together() -> None:
    worker = Worker()
    running = [worker.runs(worker.small, name, 2) for name in "abcd"]
    for leaving in running[::2]:
        worker.small.stop(leaving)
    assert worker.pool.stats().num_free_slabs == 2
    blocks = worker.kv._on_device.blocks
    blocks.slab_to_empty = lambda: emptiest_that_fits(worker.pool)  # type: ignore[method-assign]
    await worker.room.gather()
    assert worker.pool.stats().num_free_slabs == 3
