"""Guides for sequences whose output has to match a grammar. They are in no line until theirs is there."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from gpu_worker.execution.executor import StepPart
from gpu_worker.guidance.guided_step import GuidedRow, GuidedStep
from gpu_worker.guidance.process import GrammarProcess, GuidesLost, ProcessGuide
from gpu_worker.roster import Roster
from gpu_worker.sequence import Sequence
from gpu_worker.served_model import ServedModel
from shared.errors import ErrorCode, GrammarError
from shared.log import about

log = logging.getLogger(__name__)

_NUM_THREADS: Final = 4  # each waits for a process
_MAX_MODELS: Final = 16  # that have a process while no sequence uses it: tens of MB each

Compiling = asyncio.Future[ProcessGuide]


class Guidance:
    """In the engine's loop, which calls it between two steps."""

    def __init__(self, roster: Roster, wake: Callable[[], None], max_rows: int) -> None:
        """wake: called when a guide is there. max_rows: of one step."""
        self._roster = roster
        self._wake = wake
        self._max_rows = max_rows
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="grammars")
        self._models: OrderedDict[ServedModel, GrammarProcess] = OrderedDict()  # least recently used first
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
            self._close(self._models.pop(model))

    def begin_step(self, sequences: Iterable[Sequence], parts: Iterable[StepPart]) -> list[GuidedStep]:
        """Masks for those that get a token in the step of these parts, which comes next. All are of one model."""
        rows: dict[GrammarProcess, list[GuidedRow]] = {}  # a process that is lost may have left some of its own
        for index, (sequence, part) in enumerate(zip(sequences, parts, strict=True)):
            if isinstance(sequence.guide, ProcessGuide) and part.sampling is not None:
                row = GuidedRow(index, sequence, sequence.guide, part.sampling)
                rows.setdefault(sequence.guide.process, []).append(row)
        return [GuidedStep(process, of_process) for process, of_process in rows.items()]

    def close(self) -> None:
        for process in self._models.values():
            process.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, sequence: Sequence, model: ServedModel) -> None:
        process = self._process_of(model)
        grammar, output = sequence.sampling.grammar, tuple(sequence.output)
        compiling = asyncio.get_running_loop().run_in_executor(self._threads, process.guide, grammar, output)
        self._compiling[sequence] = compiling
        compiling.add_done_callback(lambda result: self._on_compiled(sequence, result))

    def _process_of(self, model: ServedModel) -> GrammarProcess:
        process = self._models.get(model)
        if process is None or process.is_lost:
            process = self._models[model] = GrammarProcess(model.text_folder, self._max_rows)
        self._models.move_to_end(model)
        idle = [other for other, one in self._models.items() if one.is_idle and one is not process]
        for other in idle[: max(0, len(idle) - _MAX_MODELS)]:
            self._close(self._models.pop(other))
        return process

    def _close(self, process: GrammarProcess) -> None:
        """It takes a moment."""
        self._threads.submit(process.close)

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
        if isinstance(error, GuidesLost):  # its owner tries again
            self._roster.end(sequence, "cancelled", now_s)
            return
        if not isinstance(error, GrammarError):
            with about(sequence.request_id):
                log.error("a grammar could not be compiled", exc_info=error)
        reason = str(error) if isinstance(error, GrammarError) else "it could not be compiled"
        self._roster.end(sequence, "error", now_s, code=ErrorCode.INVALID_REQUEST, message=f"the grammar: {reason}")

    def _is_live(self, sequence: Sequence) -> bool:
        return self._roster.get(sequence.request_id) is sequence
