"""What a device back end offers. Nothing outside gpu_worker/device/ may assume a CPU or a GPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from shared.catalogue import KvShape


@dataclass(frozen=True, slots=True)
class KvLayout:
    """Where one shape class's KV lies in the region: block id = byte offset / quantum."""

    shape: KvShape
    dtype: torch.dtype
    block_tokens: int
    block_bytes: int  # a multiple of quantum_bytes
    slab_bytes: int  # blocks start at slab * slab_bytes + i * block_bytes
    quantum_bytes: int


@dataclass(frozen=True, slots=True)
class SequenceSpan:
    """One sequence's part of a packed step: tokens [start, start + num_new) are new, those before are in KV."""

    num_new: int
    start: int
    block_ids: Sequence[int]  # cover start + num_new tokens

    @property
    def length(self) -> int:
        return self.start + self.num_new


class Event(Protocol):
    """Completion of work that was started on the device."""

    def done(self) -> bool: ...

    def wait(self) -> None: ...


class Piece(NamedTuple):
    """Bytes to copy from host to device or back; both [n] uint8, contiguous."""

    destination: Tensor
    source: Tensor


class TransferCancelled(Exception):
    """The bytes that somebody waits for will not come."""


class Transfer(Protocol):
    """Pieces on their way, in order. Ends once: all arrived, or cancelled and no byte is written any more.

    Any thread may call.
    """

    @property
    def num_bytes(self) -> int: ...

    @property
    def arrived_bytes(self) -> int:
        """Of the pieces in order."""

    def wait(self, num_bytes: int | None = None) -> None:
        """The calling thread's device work waits for the first `num_bytes` (or all). Raises TransferCancelled."""

    def when_ended(self, callback: Callable[[], object]) -> None:
        """Calls back once, from whatever thread."""

    def hurry(self) -> None:
        """Somebody waits for it now."""

    def cancel(self) -> None:
        """Its destination may be reused when it has ended."""


class CopyEngine(Protocol):
    """Copies beside computation."""

    def start(self, pieces: Sequence[Piece], *, urgent: bool) -> Transfer:
        """Urgent ones go before the others."""

    def close(self) -> None:
        """Cancels what is not done; returns when no byte is written any more."""


class StepAttention(Protocol):
    """Attention of one packed step over paged KV; made once per step, called once per layer."""

    def attend(
        self,
        layer: int,
        query: Tensor,  # [1, num_heads, num_tokens, head_dim]
        key: Tensor,  # [1, num_kv_heads, num_tokens, head_dim]
        value: Tensor,  # [1, num_kv_heads, num_tokens, head_dim]
        scaling: float,
        window: int | None,  # a token sees this many tokens, itself included
        softcap: float | None,
    ) -> Tensor:  # [1, num_tokens, num_heads, head_dim]
        """Writes the new tokens' keys and values into their blocks, then attends."""


class KvMemory(Protocol):
    """One shape class's views of the KV region."""

    def prepare(self, spans: Sequence[SequenceSpan]) -> StepAttention:
        """Spans in packed order; those with one new token come first, longest first."""


class Device(Protocol):
    name: str
    torch_device: torch.device
    unified: bool  # host memory is device memory: weights are used where they lie
    layout: str  # of weight blobs, see shared/catalogue.py
    block_tokens: int  # tokens of a KV block: what the attention kernels want

    @property
    def copies(self) -> CopyEngine | None:
        """None: a copy takes the cores that a step needs, so it runs alone."""

    def allocate(self, num_bytes: int) -> Tensor:
        """[num_bytes] uint8, device; aligned to 2 MiB; contents undefined."""

    def copy(self, destination: Tensor, source: Tensor) -> Event:
        """Starts copying bytes between host and device (or within one); both [n] uint8."""

    def copy_blocks(
        self,
        destination: Tensor,
        source: Tensor,
        offsets: Sequence[tuple[int, int]],  # bytes, of each block in destination and source
        block_bytes: int,
        on_done: Callable[[], None],
    ) -> Event:
        """Starts copying blocks between host and device, beside the steps; both [n] uint8.

        `on_done` is called from whatever thread once the event has fired. A failed copy raises where it is waited for.
        """

    def close(self) -> None:
        """Copies that are not done are cancelled; returns when no byte is written any more."""

    def open_kv(self, region: Tensor, layout: KvLayout) -> KvMemory:
        """region: [num_bytes] uint8, device."""

    def optimize(self, module: nn.Module) -> None:
        """Replaces parts of a model by faster equals of this device (fused norms, packed linears)."""
