"""What a step's sequences may draw from, computed beside its forward pass."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Final, cast

import numpy as np
import torch
from llguidance import LLExecutor, LLMatcher
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask_par
from torch import Tensor

from gpu_worker.execution.sampling import SamplingRow
from gpu_worker.guidance.guide import Guide
from shared.machine import num_cores

_MAX_THREADS: Final = 4  # without the GIL; on a CPU the forward pass wants the cores, too
_Guided = Sequence[tuple[Guide, SamplingRow]]


@dataclass(frozen=True, slots=True)
class _Pending:
    """One row of masks that are being computed."""

    masks: Future[Tensor]  # [num_guided, num_words] int32, host
    row: int

    def __call__(self) -> Tensor:
        """[num_words] int32, host: waits until it is there."""
        return self.masks.result()[self.row]


class Masks:
    """One call for all rows of a step, on a thread of its own: the GIL is taken twice, not twice for each row."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="masks")

    def begin(self, guided: _Guided) -> None:
        """Gives each row its mask. All are of one model, and until the step is over nobody else uses the guides."""
        masks = self._thread.submit(self._compute, guided)
        for row, (_, sampling_row) in enumerate(guided):
            sampling_row.mask = _Pending(masks, row)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _compute(self, guided: _Guided) -> Tensor:
        masks = allocate_token_bitmask(len(guided), guided[0][0].num_ids)  # [num_guided, num_words] int32
        rows = [(cast(LLMatcher, guide.matcher), row) for row, (guide, _) in enumerate(guided)]
        fill_next_token_bitmask_par(self._threads, rows, masks)
        for bits, (guide, row) in zip(masks.view(np.uint32), guided, strict=True):
            may_stop = row.position >= row.sampling.min_tokens
            guide.settle(bits, row.sampling.stop_token_ids, may_stop=may_stop)
        return torch.from_numpy(masks)

    @cached_property
    def _threads(self) -> LLExecutor:
        return LLExecutor(num_threads=max(1, min(_MAX_THREADS, num_cores() // 4)))
