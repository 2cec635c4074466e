"""Forward passes: packed input in, one sampled token per sequence that asks for one out. Runs on the device thread."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gpu_worker.device.base import Device, KvLayout, KvMemory, SequenceSpan
from gpu_worker.execution.module import BoundModule
from gpu_worker.execution.sampling import SamplingRow, sample
from gpu_worker.execution.streaming import Stream, StreamedModule, StreamOrder, streamed_module
from shared.errors import ModelError


@dataclass(slots=True)
class StepPart:
    """One sequence's share of a step: a prefill chunk or one decode token."""

    span: SequenceSpan
    token_ids: Sequence[int]  # span.num_new of them
    sampling: SamplingRow | None  # None: the chunk does not reach the sequence's end


class Executor:
    """One loaded model on one device."""

    def __init__(self, device: Device, bound: BoundModule, region: Tensor, layout: KvLayout) -> None:
        """region: [num_bytes] uint8, the KV region of the device."""
        self._device = device
        self._bound = bound
        self._kv: KvMemory = device.open_kv(region, layout)
        device.optimize(bound.module)

    def bind(self, base: Tensor) -> None:
        """base: [blob_bytes] uint8, where the weights lie now."""
        self._bound.bind(base)

    def release(self) -> None:
        """The memory of the weights is going away."""
        self._bound.release()

    @property
    def stream_order(self) -> StreamOrder | None:
        """None where the model's parts can't be told apart: then its first step waits for all of it."""
        return None if self._streamed is None else self._streamed.order

    @cached_property
    def _streamed(self) -> StreamedModule | None:
        try:
            return streamed_module(self._bound)
        except ModelError:
            return None

    @torch.inference_mode()
    def step(self, parts: Sequence[StepPart], stream: Stream | None = None) -> list[int | None]:
        """Token ids in the order of `parts`; None where none was asked for. Weights may come by `stream`."""
        if stream is not None:
            assert self._streamed is not None
            with self._streamed.receiving(stream):
                return self.step(parts)
        order = sorted(range(len(parts)), key=lambda i: (parts[i].span.num_new > 1, -parts[i].span.length))
        packed = [parts[i] for i in order]
        logits = self.logits(packed)
        tokens = iter(sample(logits, [part.sampling for part in packed if part.sampling is not None]))
        result: list[int | None] = [None] * len(parts)
        for i, part in zip(order, packed, strict=True):
            if part.sampling is not None:
                result[i] = next(tokens)
        return result

    @torch.inference_mode()
    def logits(self, packed: Sequence[StepPart]) -> Tensor:
        """[num_sampled, vocab_size]: of the last token of each part that samples; parts in packed order."""
        device = self._device.torch_device
        spans = [part.span for part in packed]
        tokens = torch.tensor([t for part in packed for t in part.token_ids], device=device)  # [num_tokens] int64
        positions = torch.cat([torch.arange(span.start, span.length, device=device) for span in spans])
        ends, end = [], 0
        for part in packed:
            end += part.span.num_new
            if part.sampling is not None:
                ends.append(end - 1)
        output = self._bound.module(
            input_ids=tokens[None],
            position_ids=positions[None],
            use_cache=False,
            # An index tensor: an int or a slice would multiply by the whole vocabulary as a batch.
            logits_to_keep=torch.tensor(ends, dtype=torch.int64, device=device),
            kottos_step=self._kv.prepare(spans),
        )
        return output.logits[0]
