"""The CPU back end: the device is ordinary memory, copies are real copies, kernels are torch's."""

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor, nn

from gpu_worker.device.base import Event, KvLayout, Piece
from gpu_worker.device.cpu_attention import CpuKvMemory
from gpu_worker.device.cpu_transfer import CpuCopyEngine, CpuTransfer

_ALIGN_BYTES = 2 << 20


class Done:
    """The event of work that has already completed."""

    def done(self) -> bool:
        return True

    def wait(self) -> None:
        return None


class Copying:
    """The event of blocks that a thread copies."""

    def __init__(self, copying: Future[None]) -> None:
        self._copying = copying

    def done(self) -> bool:
        return self._copying.done()

    def wait(self) -> None:
        self._copying.result()


class Arrival:
    """The event of blocks that come over the link."""

    def __init__(self, transfer: CpuTransfer) -> None:
        self._transfer = transfer

    def done(self) -> bool:
        return self._transfer.ended

    def wait(self) -> None:
        self._transfer.wait()


class CpuDevice:
    name = "cpu"
    torch_device = torch.device("cpu")
    layout = "plain"
    block_tokens = 16

    def __init__(self, *, unified: bool, link_bytes_per_s: float | None = None) -> None:
        """With a link, copies behave as a copy engine's would: at its pace, beside the steps."""
        self.unified = unified
        self._block_thread = ThreadPoolExecutor(1, thread_name_prefix="kv-blocks")  # begins with its first copy
        self.copies = None if link_bytes_per_s is None else CpuCopyEngine(link_bytes_per_s)

    def allocate(self, num_bytes: int) -> Tensor:
        raw = torch.empty(num_bytes + _ALIGN_BYTES, dtype=torch.uint8)
        skip_bytes = -raw.data_ptr() % _ALIGN_BYTES
        return raw[skip_bytes : skip_bytes + num_bytes]

    def copy(self, destination: Tensor, source: Tensor) -> Done:
        destination.copy_(source)
        return Done()

    def copy_blocks(
        self,
        destination: Tensor,
        source: Tensor,
        offsets: Sequence[tuple[int, int]],
        block_bytes: int,
        on_done: Callable[[], None],
    ) -> Event:
        if self.copies is not None:
            pieces = [
                Piece(destination[into : into + block_bytes], source[out_of : out_of + block_bytes])
                for into, out_of in offsets
            ]
            transfer = self.copies.start(pieces, urgent=True)
            transfer.when_ended(on_done)
            return Arrival(transfer)
        copying = self._block_thread.submit(_copy_blocks, destination, source, offsets, block_bytes)
        copying.add_done_callback(lambda _: on_done())
        return Copying(copying)

    def open_kv(self, region: Tensor, layout: KvLayout) -> CpuKvMemory:
        return CpuKvMemory(region, layout)

    def close(self) -> None:
        if self.copies is not None:
            self.copies.close()
        self._block_thread.shutdown(cancel_futures=True)

    def optimize(self, module: nn.Module) -> None:
        return None


def _copy_blocks(destination: Tensor, source: Tensor, offsets: Sequence[tuple[int, int]], block_bytes: int) -> None:
    into, out_of = destination.data_ptr(), source.data_ptr()
    for destination_offset, source_offset in offsets:
        # One core, and the GIL is released: torch's copy would start a second team of threads beside the step's.
        ctypes.memmove(into + destination_offset, out_of + source_offset, block_bytes)
