"""The rows of one step whose sequences follow grammars: what they may draw from, and whether what they drew belongs."""

from collections.abc import Sequence as Several
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_worker.execution.executor import PartOutput
from gpu_worker.execution.sampling import SamplingRow
from gpu_worker.guidance.process import GrammarProcess, ProcessGuide
from gpu_worker.guidance.protocol import Row
from gpu_worker.sequence import Sequence


@dataclass(frozen=True, slots=True)
class GuidedRow:
    part: int  # its index in the step
    sequence: Sequence
    guide: ProcessGuide
    sampling: SamplingRow


class GuidedStep:
    """Of one process. The device thread waits for masks, computed beside the forward pass, and then for verdicts."""

    def __init__(self, process: GrammarProcess, rows: Several[GuidedRow]) -> None:
        """Begins with the masks, and gives each row its own."""
        self._process = process
        self._rows = rows
        self._masks: Tensor | None = None  # [num_rows, num_words] int32, host
        self._number = process.ask_masks([_asked(row) for row in rows])
        for index, row in enumerate(rows):
            row.sampling.mask = lambda index=index: self._mask(index)

    def judge(self, outputs: Several[PartOutput]) -> None:
        """Of the step's parts. What ends a sequence is no token of its output's text."""
        drawn: list[tuple[ProcessGuide, int]] = []
        for row in self._rows:
            token_id, guide = outputs[row.part].token_id, row.guide
            if token_id is None or guide.failure or guide.is_complete or row.sequence.is_stop(token_id):
                continue
            drawn.append((guide, token_id))
        if drawn:
            self._process.judge(drawn)

    def _mask(self, row: int) -> Tensor:
        """[num_words] int32, host."""
        if self._masks is None:
            guides = [each.guide for each in self._rows]
            masks = self._process.masks(self._number, guides)
            if masks is None:  # whatever is drawn will not be accepted
                self._masks = torch.full((len(guides), guides[0].num_words), -1, dtype=torch.int32)
            else:
                self._masks = torch.from_numpy(masks)
        return self._masks[row]


def _asked(row: GuidedRow) -> Row:
    sampling = row.sampling.sampling
    return Row(row.guide.key, sampling.stop_token_ids, row.sampling.position >= sampling.min_tokens)
