"""What nobody uses moves to host memory while there is room, and is found there."""

import pytest

from gpu_worker.sequence import Sequence
from tests.unit.gpu_worker.kv.test_swaps import Worker
from tests.unit.gpu_worker.stand_ins import BLOCK_TOKENS, submit


def ended(worker: Worker, name: str, first_token: int, num_blocks: int) -> None:
    """A sequence that has left its full blocks."""
    sequence = newcomer(worker, name, first_token, num_blocks)
    num_tokens = num_blocks * BLOCK_TOKENS
    assert worker.room.make(worker.a, [(sequence, num_tokens)]) == [(sequence, num_tokens)]
    sequence.num_computed_tokens = num_tokens
    worker.a.stop(sequence)


def newcomer(worker: Worker, name: str, first_token: int, num_blocks: int) -> Sequence:
    sequence = Sequence(submit(name, prompt=[first_token, *range(num_blocks * BLOCK_TOKENS)]), now_s=0.0)
    worker.a.waiting.add(sequence)
    return sequence


@pytest.fixture
def worker() -> Worker:
    """Eight device blocks, all kept: four of each of two sequences."""
    worker = Worker(keep=True)
    ended(worker, "old", 100, 4)
    ended(worker, "new", 200, 4)
    return worker


def test_the_oldest_goes_to_host_memory_until_a_quarter_is_free(worker: Worker) -> None:
    worker.kv.settle()
    assert len(worker.device.held) == 1
    assert (worker.used(), worker.kv.device_used_bytes) == ((8, 2), 0)
    worker.copies_end()
    assert worker.used() == (6, 2)
    assert worker.device.held == []


def test_what_is_in_host_memory_is_copied_in_and_counts_as_cached(worker: Worker) -> None:
    worker.kv.settle()
    worker.copies_end()
    again = newcomer(worker, "again", 100, 4)
    assert worker.step(again) == []
    assert (again.is_ready, again.num_cached_tokens, again.num_computed_tokens) == (False, 16, 16)
    worker.copies_end()
    assert worker.step(again) == ["again"]


def test_who_gives_way_while_a_part_comes_in_is_computed_again(worker: Worker) -> None:
    worker.kv.settle()
    worker.copies_end()
    again = newcomer(worker, "again", 100, 4)
    worker.step(again)
    worker.a.preempt(again)
    assert (again.is_ready, again.num_computed_tokens, again.num_swaps) == (True, 0, 0)
    assert worker.step(again) == []  # comes in again, beside the former copy
    worker.copies_end()
    assert (worker.step(again), again.num_cached_tokens) == (["again"], 16)
    worker.a.stop(again)
    assert worker.kv.device_used_bytes == 0


def test_found_while_it_moves_out_it_stays(worker: Worker) -> None:
    worker.kv.settle()
    again = newcomer(worker, "again", 100, 4)
    assert (worker.step(again), again.num_cached_tokens) == (["again"], 16)
    worker.copies_end()
    assert len(again.block_ids) == 5
    assert worker.kv.device_used_bytes == 5


def test_a_failed_copy_drops_what_it_moved(worker: Worker) -> None:
    worker.kv.settle()
    worker.device.held.pop().fail()
    worker.kv.settle()
    assert worker.used() == (6, 0)
    again = newcomer(worker, "again", 100, 4)
    assert worker.room.make(worker.a, [(again, 99)]) == [(again, 9)]


def test_without_host_memory_it_is_kept_until_somebody_needs_room() -> None:
    worker = Worker(num_host_blocks=0, keep=True)
    ended(worker, "old", 100, 4)
    ended(worker, "new", 200, 4)
    worker.kv.settle()
    assert worker.used() == (8, 0)
    found = newcomer(worker, "new again", 200, 4)
    assert worker.step(found) == ["new again"]
    assert (found.num_cached_tokens, worker.used()) == (16, (8, 0))
    lost = newcomer(worker, "old again", 100, 2)
    assert worker.room.make(worker.a, [(lost, 9)]) == [(lost, 1)]
    assert lost.num_cached_tokens == 8
