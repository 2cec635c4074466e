"""Weights that are on disk only: asked for while other models run, and kept until theirs has had its turn.

One at a time, and by the policy's order: the model whose turn would be next. What was fetched is held, so that a host
with room for fewer models than have work makes progress: whoever asks for the room next gets it after that turn.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Final, Protocol

from gpu_worker.scheduling.policy import WorkerView
from gpu_worker.scheduling.step import admission, has_something_to_run, next_to_fetch
from shared.errors import KottosError
from shared.ids import ModelName

log = logging.getLogger(__name__)

_PATIENCE_S: Final = 1.0  # for a turn to come next, before its weights are asked for all the same


class FetchedBlobs(Protocol):
    async def fetch(self, model: ModelName) -> None:
        """Into host memory; others may have to go for it. Raises KottosError."""

    def hold(self, model: ModelName) -> AbstractContextManager[None]:
        """Meanwhile its blob stays, once it is there."""


@dataclass(slots=True)
class _Kept:
    holding: ExitStack
    asked_at_s: float
    is_there: bool = False
    num_steps: int = 0


@dataclass(frozen=True, slots=True)
class FetchFailure:
    model: ModelName
    reason: str


class Fetcher:
    """In the engine's loop."""

    def __init__(
        self,
        blobs: FetchedBlobs,
        turn_order: Callable[[], Sequence[ModelName]],
        on_settled: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """on_settled: a blob came, or failed to."""
        self._blobs = blobs
        self._turn_order = turn_order
        self._on_settled = on_settled
        self._clock = clock
        self._kept: dict[ModelName, _Kept] = {}
        self._missing_since_s: dict[ModelName, float] = {}  # of models with work
        self._fetching: asyncio.Task[None] | None = None
        self._failures: list[FetchFailure] = []

    @property
    def awaited(self) -> list[ModelName]:
        """Asked for, and not run since."""
        return [name for name, kept in self._kept.items() if kept.num_steps == 0]

    def look(self, view: WorkerView) -> None:
        """Between two steps: lets go of what had its turn, and asks for what is missing next."""
        missing = [m.name for m in view.models if not m.is_at_hand and (m.running or m.waiting)]
        if not self._kept and not missing:
            self._missing_since_s.clear()
            return
        now_s = self._clock()
        self._missing_since_s = {name: self._missing_since_s.get(name, now_s) for name in missing}
        rules = admission(view)
        for model in view.models:
            kept = self._kept.get(model.name)
            if kept is None or not kept.is_there:
                continue
            if kept.num_steps >= view.limits.turn_steps or not has_something_to_run(model, rules):
                self._let_go(model.name)
        if missing and self._fetching is None:
            overdue = [name for name, since_s in self._missing_since_s.items() if now_s - since_s >= _PATIENCE_S]
            if (name := next_to_fetch(view, self._turn_order(), overdue)) is not None:
                self._fetching = asyncio.get_running_loop().create_task(self._fetch(name))

    def pass_over(self) -> bool:
        """After a look the policy plans nothing, whatever is there: it waits for somebody else alone.

        Whether it may plan something now, as nothing is kept for who did not run.
        """
        passed_over = [name for name, kept in self._kept.items() if kept.is_there]
        for name in passed_over:
            self._let_go(name)
        return bool(passed_over)

    def take_failures(self) -> list[FetchFailure]:
        failures, self._failures = self._failures, []
        return failures

    def note_step(self, model: ModelName) -> float | None:
        """It runs a step. When it was asked for, if this is the first step since it came from disk."""
        kept = self._kept.get(model)
        if kept is None:
            return None
        kept.num_steps += 1
        return kept.asked_at_s if kept.num_steps == 1 else None

    def is_fetching(self, model: ModelName) -> bool:
        return model in self._kept and not self._kept[model].is_there

    def forget(self, model: ModelName) -> None:
        """It is served no more, and not being fetched."""
        if model in self._kept:
            self._let_go(model)
        self._missing_since_s.pop(model, None)
        self._failures = [failure for failure in self._failures if failure.model != model]

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        for name in list(self._kept):
            self._let_go(name)

    async def _fetch(self, model: ModelName) -> None:
        kept = self._kept[model] = _Kept(ExitStack(), self._clock())
        kept.holding.enter_context(self._blobs.hold(model))
        try:
            await self._blobs.fetch(model)
            kept.is_there = True
        except KottosError as error:
            self._failures.append(FetchFailure(model, str(error)))
        except Exception:
            log.exception("model %s was not fetched", model)
            self._failures.append(FetchFailure(model, "its weights could not be brought into memory"))
        finally:
            if not kept.is_there:
                self._let_go(model)
            self._fetching = None
            self._on_settled()

    def _let_go(self, model: ModelName) -> None:
        self._kept.pop(model).holding.close()
