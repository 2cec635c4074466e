"""Paged attention on the CPU, in torch operators.

A block is [num_layers, 2 (K, V), num_kv_heads, block_tokens, head_dim]; one head of one block is a row of
block_tokens * head_dim elements, so that one gather yields keys in the order that a batched matmul wants.
Offsets of a layer sit in the view, offsets of a block in the index: one index per step serves every layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from gpu_worker.device.base import KvLayout, SequenceSpan


class CpuKvMemory:
    """Views of the KV region for one shape class."""

    def __init__(self, region: Tensor, layout: KvLayout) -> None:
        shape = layout.shape
        itemsize = layout.dtype.itemsize
        elements = region.view(layout.dtype)  # [region_bytes / itemsize]
        token = shape.head_dim  # elements of one token of one head
        chunk = layout.block_tokens * token  # elements of one head of one block
        # The largest strides that reach every block whatever slab it lies in.
        block, slab = layout.block_bytes // itemsize, layout.slab_bytes // itemsize
        self.chunk_unit = math.gcd(chunk, block, slab)
        self.token_unit = math.gcd(token, block, slab)
        self.layout = layout
        self._region = region
        self.chunks: list[Tensor] = []  # per plane (layer, K or V): [num_rows, chunk], overlapping where unit < chunk
        self.tokens: list[Tensor] = []  # per plane: [num_rows, head_dim]
        for plane in range(shape.num_layers * 2):
            offset = plane * shape.num_kv_heads * chunk
            self.chunks.append(_rows(elements, offset, chunk, self.chunk_unit))
            self.tokens.append(_rows(elements, offset, token, self.token_unit))

    def chunk_rows(self, block_ids: Tensor) -> Tensor:
        """[num_sequences, num_blocks] -> rows of `chunks`, [num_sequences * num_kv_heads * num_blocks]."""
        layout = self.layout
        itemsize = layout.dtype.itemsize
        chunk = layout.block_tokens * layout.shape.head_dim
        first = block_ids * (layout.quantum_bytes // itemsize)
        heads = torch.arange(layout.shape.num_kv_heads) * chunk
        rows = first[:, None, :] + heads[None, :, None]
        return (rows // self.chunk_unit).reshape(-1)

    def token_rows(self, spans: Sequence[SequenceSpan]) -> Tensor:
        """Rows of `tokens` that the new tokens' keys and values go to, [num_tokens * num_kv_heads]."""
        layout = self.layout
        size, itemsize = layout.block_tokens, layout.dtype.itemsize
        quantum = layout.quantum_bytes // itemsize
        head_dim = layout.shape.head_dim
        firsts = torch.tensor(
            [
                span.block_ids[at // size] * quantum + at % size * head_dim
                for span in spans
                for at in range(span.start, span.length)
            ]
        )
        heads = torch.arange(layout.shape.num_kv_heads) * (size * head_dim)
        return ((firsts[:, None] + heads[None, :]) // self.token_unit).reshape(-1)

    def prepare(self, spans: Sequence[SequenceSpan]) -> "CpuStepAttention":
        self._clear_fresh_blocks(spans)
        return CpuStepAttention(self, spans)

    def _clear_fresh_blocks(self, spans: Sequence[SequenceSpan]) -> None:
        """Slots past a sequence's end are multiplied by weight 0, so whatever a former owner left must be finite."""
        layout = self.layout
        for span in spans:
            for block_id in span.block_ids[-(-span.start // layout.block_tokens) :]:
                at = block_id * layout.quantum_bytes
                self._region[at : at + layout.block_bytes].zero_()


def _rows(elements: Tensor, offset: int, width: int, unit: int) -> Tensor:
    num_rows = max(0, (elements.numel() - offset - width) // unit + 1)
    return torch.as_strided(elements, (num_rows, width), (unit, 1), elements.storage_offset() + offset)


@dataclass(slots=True)
class _Window:
    """What one window size (or none) needs of one group, for every layer that has it."""

    rows: Tensor  # of CpuKvMemory.chunks
    mask: Tensor  # additive, or boolean for a chunk


@dataclass(slots=True)
class _DecodeGroup:
    """Sequences [lo, hi) of the packed row, one new token each, of about equal length."""

    lo: int
    hi: int
    spans: Sequence[SequenceSpan]
    windows: dict[int | None, _Window] = field(default_factory=dict)


@dataclass(slots=True)
class _Chunk:
    """One sequence's several new tokens at [lo, hi) of the packed row."""

    lo: int
    hi: int
    span: SequenceSpan
    windows: dict[int | None, _Window] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _LayerSettings:
    """How one layer attends in this step."""

    index: int
    scaling: float
    window: int | None
    softcap: float | None

    def capped(self, products: Tensor) -> Tensor:
        """Scores of query-key products, where there is a cap."""
        assert self.softcap is not None
        return torch.tanh(products * self.scaling / self.softcap) * self.softcap


class CpuStepAttention:
    """Decode rows are gathered per group and multiplied as one batch; prefill chunks run one by one."""

    def __init__(self, kv: CpuKvMemory, spans: Sequence[SequenceSpan]) -> None:
        self._kv = kv
        self._token_rows = kv.token_rows(spans)
        self._groups: list[_DecodeGroup] = []
        self._chunks: list[_Chunk] = []
        at = 0
        # Padding to the longest of a group at most doubles what is read.
        for _, members in groupby(spans, key=self._group_key):
            group = list(members)
            if group[0].num_new == 1:
                self._groups.append(_DecodeGroup(at, at + len(group), group))
                at += len(group)
                continue
            for span in group:
                self._chunks.append(_Chunk(at, at + span.num_new, span))
                at += span.num_new

    def _group_key(self, span: SequenceSpan) -> int:
        return 0 if span.num_new > 1 else self._num_blocks(span.length).bit_length()

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self._kv.layout.block_tokens)

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        _, num_heads, num_tokens, head_dim = query.shape
        settings = _LayerSettings(layer, scaling, window, softcap)
        kv, planes = self._kv, layer * 2
        kv.tokens[planes].index_copy_(0, self._token_rows, key.transpose(1, 2).reshape(-1, head_dim))
        kv.tokens[planes + 1].index_copy_(0, self._token_rows, value.transpose(1, 2).reshape(-1, head_dim))
        out = query.new_empty(1, num_tokens, num_heads, head_dim)
        for group in self._groups:
            out[0, group.lo : group.hi] = self._decode(group, settings, query)
        for chunk in self._chunks:
            part = slice(chunk.lo, chunk.hi)
            out[:, part] = self._prefill(
                chunk, settings, query[:, :, part], key[:, :, part], value[:, :, part]
            ).transpose(1, 2)
        return out

    # --- one new token each ---------------------------------------------------------------------

    def _decode(self, group: _DecodeGroup, layer: _LayerSettings, query: Tensor) -> Tensor:
        """-> [num_sequences, num_heads, head_dim]"""
        if (view := group.windows.get(layer.window)) is None:
            view = group.windows[layer.window] = self._decode_window(group.spans, layer.window, query.dtype)
        num_sequences = group.hi - group.lo
        num_kv_heads, head_dim = self._kv.layout.shape.num_kv_heads, query.shape[-1]
        batch = num_sequences * num_kv_heads
        keys, values = self._gather(layer.index, view.rows, batch)  # [batch, num_context, head_dim]
        queries = query[0, :, group.lo : group.hi].transpose(0, 1).reshape(batch, -1, head_dim)
        if layer.softcap is None:
            scores = torch.baddbmm(view.mask, queries, keys.transpose(1, 2), alpha=layer.scaling)
        else:
            scores = layer.capped(torch.bmm(queries, keys.transpose(1, 2))) + view.mask
        weights = torch.softmax(scores, -1)  # [batch, num_heads / num_kv_heads, num_context]
        return torch.bmm(weights, values).view(num_sequences, -1, head_dim)

    def _decode_window(self, spans: Sequence[SequenceSpan], window: int | None, dtype: torch.dtype) -> _Window:
        size = self._kv.layout.block_tokens
        firsts = [0 if window is None else max(0, span.length - window) // size for span in spans]
        tables = [
            span.block_ids[first : self._num_blocks(span.length)] for span, first in zip(spans, firsts, strict=True)
        ]
        width = max(map(len, tables))
        # Padding repeats a block of the sequence's own: finite values, masked away.
        rows = self._kv.chunk_rows(torch.tensor([[*table, *[table[0]] * (width - len(table))] for table in tables]))
        positions = torch.tensor(firsts)[:, None] * size + torch.arange(width * size)  # [num_sequences, num_context]
        lengths = torch.tensor([span.length for span in spans])[:, None]
        hidden = positions >= lengths
        if window is not None:
            hidden |= positions < lengths - window
        mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, -torch.inf)
        return _Window(rows, mask.repeat_interleave(self._kv.layout.shape.num_kv_heads, dim=0)[:, None, :])

    # --- several new tokens of one sequence -----------------------------------------------------

    def _prefill(self, chunk: _Chunk, layer: _LayerSettings, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """-> [1, num_heads, num_new, head_dim]"""
        span, window = chunk.span, layer.window
        sdpa = partial(F.scaled_dot_product_attention, scale=layer.scaling, enable_gqa=query.shape[1] != key.shape[1])
        plain = layer.softcap is None and (window is None or span.length <= window)
        if plain and span.start == 0:
            return sdpa(query, key, value, is_causal=True)
        if (view := chunk.windows.get(window)) is None:
            view = chunk.windows[window] = self._chunk_window(span, window)
        num_kv_heads = self._kv.layout.shape.num_kv_heads
        keys, values = (part[None] for part in self._gather(layer.index, view.rows, num_kv_heads))
        if layer.softcap is None:
            return sdpa(query, keys, values, attn_mask=view.mask)
        groups = query.shape[1] // num_kv_heads
        keys, values = keys.repeat_interleave(groups, dim=1), values.repeat_interleave(groups, dim=1)
        scores = layer.capped(query @ keys.transpose(2, 3))
        weights = torch.softmax(scores.float().masked_fill(~view.mask, -torch.inf), -1)
        return weights.to(values.dtype) @ values

    def _chunk_window(self, span: SequenceSpan, window: int | None) -> _Window:
        size = self._kv.layout.block_tokens
        first = 0 if window is None else max(0, span.start + 1 - window) // size
        table = span.block_ids[first : self._num_blocks(span.length)]
        seen = torch.arange(first * size, (first + len(table)) * size)[None, :]
        own = torch.arange(span.start, span.length)[:, None]
        visible = seen <= own  # [num_new, num_context]
        if window is not None:
            visible &= seen > own - window
        return _Window(self._kv.chunk_rows(torch.tensor([table])), visible)

    def _gather(self, layer: int, rows: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Keys and values, each [batch, num_context, head_dim]."""
        head_dim = self._kv.layout.shape.head_dim
        keys = torch.index_select(self._kv.chunks[layer * 2], 0, rows)
        values = torch.index_select(self._kv.chunks[layer * 2 + 1], 0, rows)
        return keys.view(batch, -1, head_dim), values.view(batch, -1, head_dim)
