"""What a device back end offers. Nothing outside gpu_worker/device/ may assume a CPU or a GPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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

    def allocate(self, num_bytes: int) -> Tensor:
        """[num_bytes] uint8, device; aligned to 2 MiB; contents undefined."""

    def copy(self, destination: Tensor, source: Tensor) -> Event:
        """Starts copying bytes between host and device (or within one); both [n] uint8."""

    def open_kv(self, region: Tensor, layout: KvLayout) -> KvMemory:
        """region: [num_bytes] uint8, device."""

    def optimize(self, module: nn.Module) -> None:
        """Replaces parts of a model by faster equals of this device (fused norms, packed linears)."""
