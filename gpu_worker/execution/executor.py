"""Forward passes: packed input in, a sampled token out for each sequence that asks for one. On the device thread."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gpu_worker.device.base import Device, KvLayout, KvMemory, SequenceSpan
from gpu_worker.execution.logprobs import RawScores, ScoredTokens, score
from gpu_worker.execution.module import BoundModule
from gpu_worker.execution.sampling import SamplingRow, sample
from gpu_worker.execution.streaming import Stream, StreamedModule, StreamOrder, streamed_module
from shared.errors import ModelError
from shared.messages import TokenLogprobs


@dataclass(slots=True)
class StepPart:
    """One sequence's share of a step: a prefill chunk or one decode token."""

    span: SequenceSpan
    token_ids: Sequence[int]  # span.num_new of them
    sampling: SamplingRow | None  # None: the chunk does not reach the sequence's end
    scored: ScoredTokens | None = None


@dataclass(frozen=True, slots=True)
class PartOutput:
    """What a step says about one of its parts."""

    token_id: int | None = None  # the sequence's next one, if it was asked for
    logprobs: TokenLogprobs | None = None  # its, if they were asked for
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()  # of the scored tokens


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
    def step(self, parts: Sequence[StepPart], stream: Stream | None = None) -> list[PartOutput]:
        """In the order of `parts`. Weights may come by `stream`."""
        if stream is not None:
            assert self._streamed is not None
            with self._streamed.receiving(stream):
                return self.step(parts)
        order = sorted(range(len(parts)), key=lambda i: (parts[i].span.num_new > 1, -parts[i].span.length))
        packed = [parts[i] for i in order]
        outputs = dict(zip(order, _outputs(packed, self.logits(packed)), strict=True))
        return [outputs[i] for i in range(len(parts))]

    @torch.inference_mode()
    def logits(self, packed: Sequence[StepPart]) -> Tensor:
        """[num_rows, vocab_size]: of each part the rows that score tokens, then the last one if it samples."""
        device = self._device.torch_device
        spans = [part.span for part in packed]
        tokens = torch.tensor([t for part in packed for t in part.token_ids], device=device)  # [num_tokens] int64
        positions = torch.cat([torch.arange(span.start, span.length, device=device) for span in spans])
        rows, start = list[int](), 0
        for part in packed:
            rows += [start + at for at in _logit_rows(part)]
            start += part.span.num_new
        output = self._bound.module(
            input_ids=tokens[None],
            position_ids=positions[None],
            use_cache=False,
            # An index tensor: an int or a slice would multiply by the whole vocabulary as a batch.
            logits_to_keep=torch.tensor(rows, dtype=torch.int64, device=device),
            kottos_step=self._kv.prepare(spans),
        )
        return output.logits[0]


def _logit_rows(part: StepPart) -> Iterator[int]:
    """Indices of the part's tokens whose logits are wanted, the one that samples last."""
    if part.scored is not None:
        yield from range(part.scored.first, part.scored.first + len(part.scored.token_ids))
    if part.sampling is not None:
        yield part.span.num_new - 1


def _outputs(packed: Sequence[StepPart], logits: Tensor) -> Iterable[PartOutput]:
    """logits: [num_rows, vocab_size], as `Executor.logits` returns them; may be overwritten."""
    scored = [list[TokenLogprobs]() for _ in packed]
    sampled, row = list[int](), 0
    for part, of_part in zip(packed, scored, strict=True):
        if part.scored is not None:
            num_scored = len(part.scored.token_ids)
            of_part += score(logits[row : row + num_scored], part.scored.token_ids, part.scored.num_top)
            row += num_scored
        if part.sampling is not None:
            sampled.append(row)
            row += 1
    rows = [part.sampling for part in packed if part.sampling is not None]
    drawn = iter(_draw(logits if len(sampled) == row else logits[sampled], rows))
    for part, of_part in zip(packed, scored, strict=True):
        token_id, logprobs = (None, None) if part.sampling is None else next(drawn)
        yield PartOutput(token_id, logprobs, tuple(of_part))


def _draw(logits: Tensor, rows: Sequence[SamplingRow]) -> Iterable[tuple[int, TokenLogprobs | None]]:
    """logits: [num_rows, vocab_size], may be overwritten -> a token per row, with its log-probabilities where asked."""
    nums_top = {i: num for i, row in enumerate(rows) if (num := row.sampling.num_logprobs) is not None}
    raw = RawScores(logits[list(nums_top)], list(nums_top.values())) if nums_top else None
    tokens = sample(logits, rows)
    scored = raw.of([tokens[i] for i in nums_top]) if raw is not None else []
    logprobs = dict(zip(nums_top, scored, strict=True))
    return [(token_id, logprobs.get(i)) for i, token_id in enumerate(tokens)]
