"""One swap at a time: what its sequence, its blocks and the others see while it is under way."""

import pytest

from gpu_worker.kv.room import Room
from gpu_worker.kv.store import KvStore
from gpu_worker.memory.slab_pool import SlabPool
from gpu_worker.sequence import Sequence
from gpu_worker.served_model import ServedModel
from shared.ids import ModelName
from tests.unit.gpu_worker.kv.held_copies import HeldDevice
from tests.unit.gpu_worker.stand_ins import BLOCK_TOKENS, COSTS, kv_region, kv_store, submit


class Worker:
    """Two models of one shape class, eight device blocks, as many of the host as wanted."""

    def __init__(self, num_host_blocks: int = 8, *, keep: bool = False) -> None:
        self.device = HeldDevice()
        self.pool, self.host_pool = SlabPool(8, 1, 1), SlabPool(num_host_blocks, 1, 1)
        self.kv = KvStore(kv_region(self.pool, keep=keep), kv_region(self.host_pool, keep=keep), self.device)
        shape, nothing = self.kv.register(1), None
        self.a, self.b = (
            ServedModel(ModelName(name), nothing, shape, self.kv, nothing, nothing, 100, COSTS)  # type: ignore[arg-type]
            for name in ("a", "b")
        )
        self.room = Room({model.name: model for model in (self.a, self.b)}, self.kv)

    def run(self, name: str, num_blocks: int, model: ServedModel | None = None, at_s: float = 0.0) -> Sequence:
        """A sequence whose `num_blocks` blocks are full."""
        sequence = Sequence(submit(name, prompt=[2] * (num_blocks * BLOCK_TOKENS + 1)), at_s)
        model = model or self.a
        model.waiting.add(sequence)
        num_tokens = num_blocks * BLOCK_TOKENS
        assert self.room.make(model, [(sequence, num_tokens)]) == [(sequence, num_tokens)]
        sequence.num_computed_tokens += num_tokens
        return sequence

    def step(self, *sequences: Sequence, model: ServedModel | None = None) -> list[str]:
        """One more token of each -> those that get it."""
        ready = self.room.make(model or self.a, [(sequence, 1) for sequence in sequences if sequence.is_ready])
        return [str(sequence.request_id) for sequence, _ in ready]

    def copies_end(self) -> None:
        for copy in self.device.held:
            copy.let()
        self.device.held.clear()
        self.kv.settle()

    def used(self) -> tuple[int, int]:
        return self.pool.used_bytes, self.host_pool.used_bytes


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_out_and_in_again(worker: Worker) -> None:
    one = worker.run("r", 3)
    worker.a.preempt(one)
    assert (worker.used(), one.is_ready, one in worker.a.waiting) == ((3, 3), False, True)
    worker.copies_end()
    assert (worker.used(), one.is_ready, one.num_computed_tokens) == ((0, 3), True, 3 * BLOCK_TOKENS)
    assert worker.step(one) == []
    assert (worker.used(), one.is_ready, worker.a.is_running(one)) == ((4, 3), False, True)
    worker.copies_end()
    assert (worker.used(), one.is_ready) == ((4, 0), True)
    assert worker.step(one) == ["r"]
    assert (one.num_preemptions, one.num_swaps) == (1, 1)


@pytest.mark.parametrize("is_coming", [False, True])
def test_blocks_of_a_copy_stay_taken_when_its_sequence_ends(worker: Worker, is_coming: bool) -> None:
    one = worker.run("r", 3)
    worker.a.preempt(one)
    if is_coming:
        worker.copies_end()
        worker.step(one)
    worker.a.stop(one)
    assert worker.used() == (3 + is_coming, 3)
    worker.copies_end()
    assert worker.used() == (0, 0)
    assert not worker.a.running and not worker.a.waiting


def test_who_gives_way_while_coming_in_keeps_what_host_memory_has(worker: Worker) -> None:
    one = worker.run("r", 3)
    worker.a.preempt(one)
    worker.copies_end()
    worker.step(one)
    worker.a.preempt(one)
    assert (worker.used(), one.is_ready) == ((4, 3), False)
    worker.copies_end()
    assert (worker.used(), one.is_ready, len(one.host_block_ids)) == ((0, 3), True, 3)
    assert one.num_computed_tokens == 3 * BLOCK_TOKENS


def test_a_full_host_means_computing_again() -> None:
    worker = Worker(num_host_blocks=2)
    one = worker.run("r", 3)
    worker.a.preempt(one)
    assert (worker.used(), one.is_ready, one.num_computed_tokens) == ((0, 0), True, 0)
    assert (one.num_preemptions, one.num_swaps) == (1, 0)


@pytest.mark.parametrize("is_coming", [False, True])
def test_a_failed_copy_means_computing_again(worker: Worker, is_coming: bool) -> None:
    one = worker.run("r", 3)
    worker.a.preempt(one)
    if is_coming:
        worker.copies_end()
        worker.step(one)
    worker.device.held.pop().fail()
    worker.kv.settle()
    assert (worker.used(), one.is_ready, one.num_computed_tokens) == ((0, 0), True, 0)
    assert worker.step(one) == ["r"]


def test_who_asks_for_room_waits_for_the_copy_and_others_go_on(worker: Worker) -> None:
    first, other = worker.run("first", 4, at_s=0.0), worker.run("other", 2, at_s=1.0)
    other.num_computed_tokens -= 1  # has room for its next token
    last = worker.run("last", 2, worker.b, at_s=2.0)
    assert worker.step(first, other) == ["other"]
    assert (last.num_swaps, first.is_ready, worker.kv.num_free_blocks(worker.a.shape)) == (1, False, 0)
    worker.copies_end()
    assert first.is_ready
    assert worker.kv.num_free_blocks(worker.a.shape) == 0, "the room is spoken for"
    assert worker.step(first, other) == ["first", "other"]
    assert worker.kv.num_free_blocks(worker.a.shape) == 1


def test_room_that_came_for_one_is_not_taken_by_a_later_one(worker: Worker) -> None:
    first, later = worker.run("first", 3, at_s=0.0), worker.run("later", 3, worker.b, at_s=1.0)
    last = worker.run("last", 2, at_s=2.0)
    assert worker.step(first) == []
    worker.copies_end()
    assert last in worker.a.waiting
    assert worker.step(later, model=worker.b) == []
    assert worker.step(first) == ["first"]
    assert worker.step(later, model=worker.b) == ["later"]


def test_the_end_of_one_that_waited_for_room_lets_the_others_try(worker: Worker) -> None:
    first, later = worker.run("first", 3, at_s=0.0), worker.run("later", 3, worker.b, at_s=1.0)
    worker.run("last", 2, at_s=2.0)
    assert worker.step(first) == []
    assert worker.step(later, model=worker.b) == []
    worker.a.stop(first)
    assert later.is_ready
    assert worker.step(later, model=worker.b) == ["later"]


def test_one_that_is_preempted_in_a_step_is_not_part_of_it() -> None:
    store = kv_store(SlabPool(4, 1, 1))
    model = ServedModel(ModelName("m"), None, store.register(1), store, None, None, 100, COSTS)  # type: ignore[arg-type]
    room = Room({model.name: model}, store)
    both = [Sequence(submit(name, prompt=[2] * 9), at_s) for name, at_s in (("first", 0.0), ("last", 1.0))]
    for sequence in both:
        model.waiting.add(sequence)
        room.make(model, [(sequence, 8)])
        sequence.num_computed_tokens = 8
    assert room.make(model, [(sequence, 1) for sequence in reversed(both)]) == [(both[0], 1)]
    assert list(model.waiting) == [both[1]]
