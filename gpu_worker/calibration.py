"""Measures models that nobody has measured on this machine: probe steps while the worker has no work.

After a second without any, one probe at a time, between two looks at the inbox: who comes waits for the rest of one
step at most. Nothing is brought in or evicted for it: a model is measured when its weights are on the device anyway.
Steps of requests teach the estimator as probes do, so a worker that is never idle needs none.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import inf
from typing import Final, Protocol

from gpu_worker.device.base import SequenceSpan
from gpu_worker.execution.executor import Executor, StepPart
from gpu_worker.execution.sampling import SamplingRow
from gpu_worker.kv.store import KvStore
from gpu_worker.scheduling.costs import StepShape, step_shape
from gpu_worker.scheduling.measured_costs import LearningCosts
from gpu_worker.scheduling.probes import LONGEST_TOKENS, NUM_SEQUENCES, OTHER_TOKENS, Probe, plan_probes
from gpu_worker.served_model import ServedModel
from gpu_worker.weights import Weights
from shared.ids import ModelName
from shared.messages import Sampling

log = logging.getLogger(__name__)

MOST_S: Final = 2.0  # for one model
QUIET_S: Final = 1.0  # without work before: between two requests of a client there is often a moment
_NUM_PASSES: Final = 2  # the quicker one counts: what disturbs a step makes it slow, and so does its being the first
_NUM_LESSONS: Final = 20  # that each probe is: they are few, and a step moves coefficients only so far
_GREEDY: Final = SamplingRow(Sampling(max_tokens=1, seed=0, temperature=0.0), 0, frozenset(), Counter())


class Holding(Protocol):
    def hold(self, model: ModelName) -> AbstractContextManager[None]:
        """Meanwhile its blob stays."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A model that is to be measured."""

    vocab_size: int
    on_measured: Callable[[], None]


@dataclass(slots=True)
class _Scratch:
    """A sequence of no request."""

    block_ids: list[int]
    num_tokens: int = 0


@dataclass(slots=True)
class _Session:
    """One model's probes; they begin anew when requests came in between."""

    model: ServedModel
    expected: Expected
    scratch: list[_Scratch]
    probes: Iterator[tuple[int, Probe]]  # with their numbers; 0: contexts begin anew
    seen: dict[int, tuple[StepShape, float]] = field(default_factory=dict)  # by number, with the least seconds
    num_steps: int = 0
    took_s: float = 0.0


class Calibration:
    """In the engine's loop."""

    def __init__(
        self,
        models: Mapping[ModelName, ServedModel],
        weights: Weights,
        blobs: Holding,
        kv: KvStore,
        on_device: Callable[[Callable[[], float]], Awaitable[float]],
        clock: Callable[[], float],
        max_step_tokens: int,
    ) -> None:
        """on_device: runs what takes long, while no step runs."""
        self._models = models
        self._weights = weights
        self._blobs = blobs
        self._kv = kv
        self._on_device = on_device
        self._clock = clock
        self._max_step_tokens = max_step_tokens
        self._expected: dict[ModelName, Expected] = {}
        self._session: _Session | None = None
        self._worked_at_s = -inf

    def expect(self, model: ModelName, expected: Expected) -> None:
        """As soon as its weights are on the device and nobody has work."""
        self._expected[model] = expected

    def pause(self) -> None:
        """There is work."""
        self._worked_at_s = self._clock()
        self._stop()

    def _stop(self) -> bool:
        """Gives back what a session holds; whether one was under way."""
        session, self._session = self._session, None
        if session is not None:
            for scratch in session.scratch:
                self._kv.give_back(scratch.block_ids)
        return session is not None

    async def advance(self) -> bool:
        """Runs one probe if there is no work; False where there was nothing to do."""
        if self._session is not None and not self._is_there(self._session.model):
            return self._stop()
        self._expected = {name: expected for name, expected in self._expected.items() if name in self._models}
        if not self._expected:
            return False
        if any(model.running or model.waiting for model in self._models.values()):
            return self._stop()
        if self._clock() - self._worked_at_s < QUIET_S:
            return False
        session = self._session = self._session or self._begin()
        if session is None:
            return False
        numbered = next(session.probes, None)
        if numbered is None or session.took_s > MOST_S:
            self._end(session)
            return True
        try:
            await self._run(session, *numbered)
        except Exception:
            log.exception("model %s could not be measured", session.model.name)
            del self._expected[session.model.name]
            self._stop()
        return True

    def _is_there(self, model: ServedModel) -> bool:
        """Served still, and not unloaded."""
        return self._models.get(model.name) is model and self._weights.is_resident(model.name)

    def _begin(self) -> _Session | None:
        for name, expected in self._expected.items():
            model = self._models[name]
            if not self._weights.is_resident(name):
                continue
            scratch = self._borrow(model)
            if scratch:
                room = [len(one.block_ids) * self._kv.block_tokens for one in scratch]
                plan = list(enumerate(plan_probes(room, self._max_step_tokens)))
                return _Session(model, expected, scratch, iter(plan * _NUM_PASSES))
        return None

    def _borrow(self, model: ServedModel) -> list[_Scratch]:
        """Fewer sequences, and none at all, where KV memory is small."""
        for num_sequences in (NUM_SEQUENCES, NUM_SEQUENCES // 2, 1):
            wanted = [LONGEST_TOKENS] + [OTHER_TOKENS] * (num_sequences - 1)
            num_blocks = [-(-min(n, model.max_sequence_tokens) // self._kv.block_tokens) for n in wanted]
            block_ids = self._kv.borrow(model.shape, sum(num_blocks))
            if block_ids is not None:
                ids = iter(block_ids)
                return [_Scratch([next(ids) for _ in range(n)]) for n in num_blocks]
        return []

    async def _run(self, session: _Session, number: int, probe: Probe) -> None:
        model, scratch = session.model, session.scratch
        if number == 0:
            for one in scratch:
                one.num_tokens = 0
        shape = step_shape((part.num_new, scratch[part.sequence].num_tokens) for part in probe)
        parts = [self._step_part(session, part.sequence, part.num_new) for part in probe]
        with self._blobs.hold(model.name):
            base = self._weights.resident(model.name)
            assert base is not None, "nothing goes while there is no work"
            model.executor.bind(base)
            seconds = await self._on_device(lambda: self._timed(model.executor, parts))
        session.took_s += seconds
        session.num_steps += 1
        if session.num_steps > 1:  # the very first step of a model allocates and looks up what stays
            _, least_s = session.seen.get(number, (shape, seconds))
            session.seen[number] = (shape, min(least_s, seconds))

    def _step_part(self, session: _Session, sequence: int, num_new: int) -> StepPart:
        scratch = session.scratch[sequence]
        start, scratch.num_tokens = scratch.num_tokens, scratch.num_tokens + num_new
        token_ids = [7919 * (position + 1) % session.expected.vocab_size for position in range(start, start + num_new)]
        return StepPart(SequenceSpan(num_new, start, scratch.block_ids), token_ids, _GREEDY)

    def _timed(self, executor: Executor, parts: list[StepPart]) -> float:
        began_at_s = self._clock()
        executor.step(parts)
        return self._clock() - began_at_s

    def _end(self, session: _Session) -> None:
        self._stop()
        del self._expected[session.model.name]
        teach(session.model.costs, list(session.seen.values()))
        log.info("model %s: measured by %d steps in %.2f s", session.model.name, session.num_steps, session.took_s)
        session.expected.on_measured()


def teach(costs: LearningCosts, seen: Sequence[tuple[StepShape, float]]) -> None:
    """seen: the shapes of probes and their seconds."""
    for _ in range(_NUM_LESSONS):
        for shape, seconds in seen:
            costs.observe(shape, seconds)
