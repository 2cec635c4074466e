"""Drives a back end's paged attention through whole steps, and says what plain float32 attention gives."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gpu_worker.device.base import Device, KvLayout, SequenceSpan
from shared.catalogue import KvShape

QUANTUM_BYTES = 256
NUM_SLABS = 4


@dataclass(frozen=True)
class Case:
    head_dim: int = 64
    num_heads: int = 4
    num_kv_heads: int = 2
    windows: tuple[int | None, ...] = (None, None)  # one per layer
    softcap: float | None = None
    dtype: torch.dtype = torch.float32
    scaling: float = 0.3
    spare_bytes: int = QUANTUM_BYTES  # at the end of each block

    @property
    def shape(self) -> KvShape:
        return KvShape(len(self.windows), self.num_kv_heads, self.head_dim)


def layout_of(case: Case, device: Device, slab_bytes: int | None = None) -> KvLayout:
    """Slabs are a quantum longer than three blocks."""
    needed_bytes = case.shape.token_bytes(case.dtype.itemsize) * device.block_tokens + case.spare_bytes
    block_bytes = -(-needed_bytes // QUANTUM_BYTES) * QUANTUM_BYTES
    slab_bytes = slab_bytes or 3 * block_bytes + QUANTUM_BYTES
    return KvLayout(case.shape, case.dtype, device.block_tokens, block_bytes, slab_bytes, QUANTUM_BYTES)


@dataclass
class Stream:
    """A sequence's queries, keys and values, all of them known beforehand."""

    query: Tensor  # [num_layers, num_heads, num_tokens, head_dim]
    key: Tensor  # [num_layers, num_kv_heads, num_tokens, head_dim]
    value: Tensor
    block_ids: list[int] = field(default_factory=list)
    num_computed: int = 0


class Model:
    """Sequences of one shape class on a KV region that may be shared."""

    def __init__(self, device: Device, case: Case, region: Tensor, layout: KvLayout, free_blocks: list[int]) -> None:
        self.device, self.case, self.layout, self.free_blocks = device, case, layout, free_blocks
        self.kv_region = region
        self.kv = device.open_kv(region, layout)
        self.generator = torch.Generator().manual_seed(0)

    def stream(self, num_tokens: int) -> Stream:
        case, num_layers = self.case, len(self.case.windows)

        def random_tensor(num_heads: int) -> Tensor:
            tensor = torch.randn(num_layers, num_heads, num_tokens, case.head_dim, generator=self.generator)
            return tensor.to(case.dtype)

        return Stream(random_tensor(case.num_heads), random_tensor(case.num_kv_heads), random_tensor(case.num_kv_heads))

    def step(self, parts: Sequence[tuple[Stream, int]]) -> None:
        """Computes so many more tokens of each stream, and checks every layer's output."""
        parts = sorted(parts, key=lambda part: (part[1] > 1, -part[0].num_computed - part[1]))
        spans = [self.span(stream, num_new) for stream, num_new in parts]
        attention = self.kv.prepare(spans)
        for layer, window in enumerate(self.case.windows):
            new = [(s, slice(s.num_computed, s.num_computed + num_new)) for s, num_new in parts]
            query, key, value = (
                torch.cat([tensors[layer, :, at] for tensors, at in packed], dim=1)[None].to(self.device.torch_device)
                for packed in (
                    [(s.query, at) for s, at in new],
                    [(s.key, at) for s, at in new],
                    [(s.value, at) for s, at in new],
                )
            )
            output = attention.attend(layer, query, key, value, self.case.scaling, window, self.case.softcap)
            expected = torch.cat([plain_attention(self.case, s, layer, at) for s, at in new])[None]
            assert output.dtype == self.case.dtype
            tolerance = 1e-4 if self.case.dtype == torch.float32 else 3e-2
            torch.testing.assert_close(output.float().cpu(), expected, rtol=tolerance, atol=tolerance)
        for stream, num_new in parts:
            stream.num_computed += num_new

    def end(self, stream: Stream) -> None:
        self.free_blocks += stream.block_ids

    def span(self, stream: Stream, num_new: int) -> SequenceSpan:
        """Takes just the blocks that it needs."""
        length = stream.num_computed + num_new
        while len(stream.block_ids) * self.layout.block_tokens < length:
            stream.block_ids.append(self.free_blocks.pop())
        return SequenceSpan(num_new, stream.num_computed, tuple(stream.block_ids))


def plain_attention(case: Case, stream: Stream, layer: int, new: slice) -> Tensor:
    """[num_new, num_heads, head_dim] float32, token by token."""
    group = case.num_heads // case.num_kv_heads
    window, outputs = case.windows[layer], []
    for at in range(new.start, new.stop):
        seen = slice(0 if window is None else max(0, at + 1 - window), at + 1)
        key = stream.key[layer, :, seen].float().repeat_interleave(group, 0)  # [num_heads, num_seen, head_dim]
        value = stream.value[layer, :, seen].float().repeat_interleave(group, 0)
        scores = torch.einsum("hd,hsd->hs", stream.query[layer, :, at].float(), key) * case.scaling
        if case.softcap is not None:
            scores = torch.tanh(scores / case.softcap) * case.softcap
        outputs.append(torch.einsum("hs,hsd->hd", torch.softmax(scores, -1), value))
    return torch.stack(outputs)


def garbage(device: Device, num_bytes: int) -> Tensor:
    """A region full of NaN, in float32 as in bfloat16."""
    return device.allocate(num_bytes).fill_(0xFF)


def open_model(device: Device, case: Case) -> Model:
    """Alone on a region of garbage, with its blocks in no order."""
    layout = layout_of(case, device)
    region = garbage(device, NUM_SLABS * layout.slab_bytes)
    blocks = [
        (slab * layout.slab_bytes + i * layout.block_bytes) // QUANTUM_BYTES
        for slab in range(NUM_SLABS)
        for i in range(3)
    ]
    random.Random(0).shuffle(blocks)
    return Model(device, case, region, layout, blocks)
