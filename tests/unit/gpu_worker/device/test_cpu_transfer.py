"""The copy engine on a clock of its own: what arrives when, and in which order."""

import threading
import weakref
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from gpu_worker.device.base import Piece, TransferCancelled
from gpu_worker.device.cpu_transfer import SLICE_BYTES, CpuCopyEngine, CpuTransfer

BYTES_PER_S = 1000.0 * SLICE_BYTES
TIMEOUT_S = 10.0


class Link:
    """A clock that moves only while the copy thread sleeps, which it does when the test lets it."""

    def __init__(self, late_s: float = 0.0) -> None:
        """late_s: by which the copy thread wakes up too late, each time."""
        self.now_s = 0.0
        self._late_s = late_s
        self.copies = CpuCopyEngine(BYTES_PER_S, lambda: self.now_s, self._sleep)
        self._allowed = threading.Semaphore(0)
        self._asleep = threading.Semaphore(0)

    def _sleep(self, seconds: float) -> None:
        self._asleep.release()
        assert self._allowed.acquire(timeout=TIMEOUT_S)
        self.now_s += seconds + self._late_s

    def begin_slice(self) -> None:
        """Waits until the copy thread has copied a slice that has not arrived yet."""
        assert self._asleep.acquire(timeout=TIMEOUT_S)

    def end_slice(self) -> None:
        self._allowed.release()

    def run(self, num_slices: int) -> None:
        for _ in range(num_slices):
            self.begin_slice()
            self.end_slice()


def pattern(num_bytes: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (num_bytes,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def ended(transfer: CpuTransfer) -> threading.Event:
    event = threading.Event()
    transfer.when_ended(event.set)
    return event


def start(link: Link, sources: Sequence[Tensor], *, urgent: bool = True) -> tuple[CpuTransfer, list[Tensor]]:
    places = [torch.zeros_like(source) for source in sources]
    pieces = [Piece(place, source) for place, source in zip(places, sources, strict=True)]
    return link.copies.start(pieces, urgent=urgent), places


def test_bytes_arrive_whole_and_no_earlier_than_the_link_allows() -> None:
    link = Link()
    sources = [pattern(3 * SLICE_BYTES + 17), pattern(5, seed=1)]
    transfer, places = start(link, sources)
    assert transfer.arrived_bytes == 0
    link.run(5)
    assert ended(transfer).wait(TIMEOUT_S)
    assert all(torch.equal(place, source) for place, source in zip(places, sources, strict=True))
    assert transfer.arrived_bytes == transfer.num_bytes == 3 * SLICE_BYTES + 22
    assert link.now_s == pytest.approx(transfer.num_bytes / BYTES_PER_S)
    link.copies.close()


def test_waking_up_late_delays_a_slice_and_none_after_it() -> None:
    slice_s = SLICE_BYTES / BYTES_PER_S
    link = Link(late_s=0.5 * slice_s)
    first, _ = start(link, [pattern(4 * SLICE_BYTES)])
    link.run(4)
    assert ended(first).wait(TIMEOUT_S)
    assert link.now_s == pytest.approx(4.5 * slice_s)
    link.now_s = 10.0  # idle: what comes then has the link from then on
    second, _ = start(link, [pattern(SLICE_BYTES)])
    link.run(1)
    assert ended(second).wait(TIMEOUT_S)
    assert link.now_s == pytest.approx(10.0 + 1.5 * slice_s)
    link.copies.close()


def test_who_waits_for_some_bytes_goes_on_when_they_are_there() -> None:
    link = Link()
    transfer, places = start(link, [pattern(2 * SLICE_BYTES)])
    seen = []

    def wait_for_half() -> None:
        transfer.wait(SLICE_BYTES)
        seen.append(
            (transfer.arrived_bytes, torch.equal(places[0][:SLICE_BYTES], pattern(2 * SLICE_BYTES)[:SLICE_BYTES]))
        )

    waiter = threading.Thread(target=wait_for_half)
    waiter.start()
    link.begin_slice()
    assert not seen
    link.end_slice()
    waiter.join(TIMEOUT_S)
    assert seen == [(SLICE_BYTES, True)]
    link.run(1)
    transfer.wait()
    link.copies.close()


def test_the_urgent_go_first_and_a_patient_one_can_hurry() -> None:
    link = Link()
    patient, _ = start(link, [pattern(3 * SLICE_BYTES)], urgent=False)
    link.begin_slice()  # the patient one's first
    urgent, _ = start(link, [pattern(SLICE_BYTES)], urgent=True)
    late, _ = start(link, [pattern(SLICE_BYTES)], urgent=False)
    link.end_slice()
    link.run(1)
    urgent.wait()
    assert (patient.arrived_bytes, late.arrived_bytes) == (SLICE_BYTES, 0)
    link.begin_slice()  # the patient one's second
    late.hurry()
    link.end_slice()
    link.run(1)
    late.wait()
    assert patient.arrived_bytes == 2 * SLICE_BYTES
    link.run(1)
    patient.wait()
    link.copies.close()


def test_a_cancelled_one_ends_after_the_slice_under_way_and_writes_no_more() -> None:
    link = Link()
    transfer, places = start(link, [pattern(3 * SLICE_BYTES)])
    event = ended(transfer)
    link.begin_slice()
    transfer.cancel()
    assert not event.is_set()
    link.end_slice()
    assert event.wait(TIMEOUT_S)
    assert not places[0][SLICE_BYTES:].any()
    with pytest.raises(TransferCancelled):
        transfer.wait()
    transfer.wait(SLICE_BYTES)  # these did arrive
    link.copies.close()


def test_one_that_has_ended_views_no_memory() -> None:
    """The copy thread may know a cancelled one until the next transfer; its source may have to go before."""
    link = Link()
    source = pattern(3 * SLICE_BYTES)
    known = weakref.ref(source)
    transfer, _ = start(link, [source])
    event = ended(transfer)
    del source
    link.begin_slice()
    transfer.cancel()
    link.end_slice()
    assert event.wait(TIMEOUT_S)
    assert known() is None
    link.copies.close()


def test_one_cancelled_while_it_queues_does_not_wait_for_the_others() -> None:
    link = Link()
    first, _ = start(link, [pattern(3 * SLICE_BYTES)])
    queued, places = start(link, [pattern(SLICE_BYTES)])
    link.begin_slice()
    queued.cancel()
    link.end_slice()
    assert ended(queued).wait(TIMEOUT_S)
    assert first.arrived_bytes < first.num_bytes
    assert not places[0].any()
    link.run(2)
    first.wait()
    link.copies.close()


def test_closing_ends_everything() -> None:
    link = Link()
    transfers = [start(link, [pattern(2 * SLICE_BYTES)])[0] for _ in range(3)]
    link.begin_slice()
    closing = threading.Thread(target=link.copies.close)
    closing.start()
    link.end_slice()
    closing.join(TIMEOUT_S)
    assert not closing.is_alive()
    assert all(ended(transfer).wait(TIMEOUT_S) for transfer in transfers)


def test_nothing_to_copy_is_there_at_once() -> None:
    link = Link()
    transfer, _ = start(link, [])
    transfer.wait()
    assert ended(transfer).is_set()
    link.copies.close()
