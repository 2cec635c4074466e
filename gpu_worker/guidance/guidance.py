"""Guides for sequences whose output has to match a grammar. They are in no line until theirs is there."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from gpu_worker.execution.executor import StepPart
from gpu_worker.guidance.grammars import Grammars
from gpu_worker.guidance.guide import Guide
from gpu_worker.guidance.masks import Masks
from gpu_worker.roster import Roster
from gpu_worker.sequence import Sequence
from gpu_worker.served_model import ServedModel
from shared.errors import ErrorCode, GrammarError
from shared.log import about

log = logging.getLogger(__name__)

_NUM_THREADS: Final = 2
_MAX_MODELS: Final = 16  # whose tokenizers are kept: tens of MB each

Compiling = asyncio.Future[Guide]


class Guidance:
    """In the engine's loop, which calls it between two steps."""

    def __init__(self, roster: Roster, wake: Callable[[], None]) -> None:
        """wake: called when a guide is there."""
        self._roster = roster
        self._wake = wake
        self._masks = Masks()
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="grammars")
        self._models: OrderedDict[ServedModel, Grammars] = OrderedDict()  # least recently used first
        self._compiling: dict[Sequence, Compiling] = {}
        self._compiled: list[tuple[Sequence, Compiling]] = []

    def look(self, now_s: float) -> None:
        """Begins with the sequences that came, and hands over the guides that are there."""
        for sequence, model in self._roster.take_unguided():
            self._begin(sequence, model)
        for sequence, compiling in self._compiling.items():
            if not self._is_live(sequence):
                compiling.cancel()  # if no thread is at it yet
        compiled, self._compiled = self._compiled, []
        for sequence, result in compiled:
            if self._is_live(sequence):
                self._finish(sequence, result, now_s)
        for model in [model for model in self._models if self._roster.models.get(model.name) is not model]:
            del self._models[model]

    def begin_masks(self, sequences: Iterable[Sequence], parts: Iterable[StepPart]) -> None:
        """For those that get a token in the step of these parts, which comes next."""
        guided = [
            (sequence.guide, part.sampling)
            for sequence, part in zip(sequences, parts, strict=True)
            if sequence.guide is not None and part.sampling is not None
        ]
        if guided:
            self._masks.begin(guided)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._masks.close()

    def _begin(self, sequence: Sequence, model: ServedModel) -> None:
        grammars = self._models.get(model) or Grammars(model.text_folder)
        self._models[model] = grammars
        self._models.move_to_end(model)
        if len(self._models) > _MAX_MODELS:
            self._models.popitem(last=False)
        grammar, output = sequence.sampling.grammar, tuple(sequence.output)
        compiling = asyncio.get_running_loop().run_in_executor(self._threads, grammars.guide, grammar, output)
        self._compiling[sequence] = compiling
        compiling.add_done_callback(lambda result: self._on_compiled(sequence, result))

    def _on_compiled(self, sequence: Sequence, result: Compiling) -> None:
        """Perhaps during a step."""
        del self._compiling[sequence]
        if not result.cancelled():
            self._compiled.append((sequence, result))
            self._wake()

    def _finish(self, sequence: Sequence, result: Compiling, now_s: float) -> None:
        error = result.exception()
        if error is None:
            self._roster.guide(sequence, result.result(), now_s)
            return
        if not isinstance(error, GrammarError):
            with about(sequence.request_id):
                log.error("a grammar could not be compiled", exc_info=error)
        reason = str(error) if isinstance(error, GrammarError) else "it could not be compiled"
        self._roster.end(sequence, "error", now_s, code=ErrorCode.INVALID_REQUEST, message=f"the grammar: {reason}")

    def _is_live(self, sequence: Sequence) -> bool:
        return self._roster.get(sequence.request_id) is sequence
