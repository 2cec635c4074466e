"""Copies beside computation: one thread, slices of at most 2 MiB, urgent ones first, at the pace of a link.

A slice counts as arrived no earlier than its bytes over the bandwidth allow, after those before it. The link is not
idle between slices: what the copy thread wakes up late by costs that slice and none after it. Whoever waits for bytes
waits on a condition and costs no core, as with a copy engine.
"""

import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gpu_worker.device.base import Piece, TransferCancelled

SLICE_BYTES: Final = 2 << 20


class CpuTransfer:
    """Between host memory and the memory that stands for a device's. Advanced by the copy thread alone."""

    def __init__(self, pieces: Sequence[Piece], *, urgent: bool, asked_at_s: float = 0.0) -> None:
        self.num_bytes = sum(piece.source.numel() for piece in pieces)
        self.arrived_bytes = 0  # whole slices
        self.ended = self.num_bytes == 0
        self.urgent = urgent
        self.asked_at_s = asked_at_s  # of the engine's clock
        self.cancelled = False
        self._slices: Iterator[Piece] = _slices(pieces)
        self._changed = threading.Condition()
        self._on_end: list[Callable[[], object]] = []

    def wait(self, num_bytes: int | None = None) -> None:
        wanted_bytes = self.num_bytes if num_bytes is None else num_bytes
        with self._changed:
            self._changed.wait_for(lambda: self.arrived_bytes >= wanted_bytes or self.ended)
            if self.arrived_bytes < wanted_bytes:
                raise TransferCancelled

    def when_ended(self, callback: Callable[[], object]) -> None:
        with self._changed:
            if not self.ended:
                self._on_end.append(callback)
                return
        callback()

    def hurry(self) -> None:
        self.urgent = True

    def cancel(self) -> None:
        self.cancelled = True

    def next_slice(self) -> Piece | None:
        return None if self.cancelled else next(self._slices, None)

    def arrive(self, num_bytes: int) -> None:
        with self._changed:
            self.arrived_bytes += num_bytes
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self.ended = True
            self._slices = iter(())  # the copy thread may keep this transfer until the next one: not the memory, too
            callbacks, self._on_end = self._on_end, []
            self._changed.notify_all()
        for callback in callbacks:
            callback()


class CpuCopyEngine:
    """Owns the copy thread, which starts with the first transfer."""

    def __init__(
        self,
        bytes_per_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._changed = threading.Condition()
        self._transfers: list[CpuTransfer] = []  # oldest first; their starters bound them
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self, pieces: Sequence[Piece], *, urgent: bool) -> CpuTransfer:
        transfer = CpuTransfer(pieces, urgent=urgent, asked_at_s=self._clock())
        if transfer.ended:
            return transfer
        with self._changed:
            self._transfers.append(transfer)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="copies", daemon=True)
                self._thread.start()
        return transfer

    def close(self) -> None:
        with self._changed:
            self._stopping = True
            for transfer in self._transfers:
                transfer.cancel()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        due_at_s = self._clock()  # when the link is free
        while (transfer := self._next()) is not None:
            piece = transfer.next_slice()
            if piece is None:
                with self._changed:
                    self._transfers.remove(transfer)
                transfer.end()
                continue
            num_bytes = piece.source.numel()
            due_at_s = max(due_at_s, transfer.asked_at_s) + num_bytes / self._bytes_per_s
            # One core and no GIL: torch's own copy would bring a second team of threads beside the step's.
            ctypes.memmove(piece.destination.data_ptr(), piece.source.data_ptr(), num_bytes)
            if (early_s := due_at_s - self._clock()) > 0:
                self._sleep(early_s)
            transfer.arrive(num_bytes)

    def _next(self) -> CpuTransfer | None:
        """Whose slice is next: the cancelled, since somebody may wait for their end, the urgent, the oldest.

        None when the engine stops and nothing is left.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._transfers or self._stopping)
            return min(self._transfers, key=lambda t: (not t.cancelled, not t.urgent), default=None)


def _slices(pieces: Sequence[Piece]) -> Iterator[Piece]:
    for destination, source in pieces:
        for start in range(0, source.numel(), SLICE_BYTES):
            yield Piece(destination[start : start + SLICE_BYTES], source[start : start + SLICE_BYTES])
