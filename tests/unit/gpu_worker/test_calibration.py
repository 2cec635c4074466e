"""Probe steps while there is no work, on stubs; each look at the clock takes a while."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from gpu_worker.calibration import MOST_S, QUIET_S, Calibration, Expected
from gpu_worker.execution.executor import Executor, PartOutput, StepPart
from gpu_worker.memory.slab_pool import SlabPool
from gpu_worker.scheduling.costs import StepShape, guess
from gpu_worker.scheduling.measured_costs import MeasuredCosts, SwitchCosts
from gpu_worker.scheduling.step_estimator import StepEstimator
from gpu_worker.sequence import Sequence as WorkerSequence
from gpu_worker.served_model import ServedModel
from gpu_worker.weights import UnifiedWeights
from shared.ids import ModelName
from tests.unit.gpu_worker.stand_ins import MODEL, kv_store, submit

VOCAB_SIZE = 50
STEP_S = 0.01


class StubBlobs:
    def __init__(self) -> None:
        self.mapped = {MODEL}
        self.num_held = 0

    def __contains__(self, model: ModelName) -> bool:
        return model in self.mapped

    def get(self, model: ModelName) -> Tensor | None:
        return torch.empty(1, dtype=torch.uint8)

    @contextmanager
    def hold(self, model: ModelName) -> Iterator[None]:
        self.num_held += 1
        yield
        self.num_held -= 1


class StubExecutor:
    def __init__(self, blobs: StubBlobs) -> None:
        self.steps: list[Sequence[StepPart]] = []
        self.error: Exception | None = None
        self._blobs = blobs

    def bind(self, base: Tensor) -> None:
        return None

    def step(self, parts: Sequence[StepPart]) -> list[PartOutput]:
        assert self._blobs.num_held, "the blob could go"
        if self.error is not None:
            raise self.error
        self.steps.append(parts)
        return [PartOutput(0) for _ in parts]


class Measuring:
    def __init__(self, num_blocks: int = 1000, step_s: float = STEP_S) -> None:
        self.pool = SlabPool(num_blocks, 1, 1)
        kv = kv_store(self.pool)
        self.blobs = StubBlobs()
        self.executor = StubExecutor(self.blobs)
        weights = UnifiedWeights(self.blobs)
        self.steps = StepEstimator(guess(1 << 20))
        costs = MeasuredCosts(self.steps, SwitchCosts(None, unified=True), 1 << 20)
        executor = cast(Executor, cast(Any, self.executor))
        self.model = ServedModel(MODEL, executor, kv.register(1), kv, weights, self.blobs, 1000, costs)
        self.models = {MODEL: self.model}
        self._step_s = step_s
        self._now_s = 0.0
        self.num_slow_steps = 0
        self.num_measured = 0
        self.calibration = Calibration(self.models, weights, self.blobs, kv, on_device, self._look, max_step_tokens=256)
        self.calibration.expect(MODEL, Expected(VOCAB_SIZE, self._on_measured))

    def advance(self) -> bool:
        return asyncio.run(self.calibration.advance())

    def run(self) -> None:
        while self.advance():
            pass

    def _look(self) -> float:
        """A step takes the time between two looks."""
        is_slow = len(self.executor.steps) <= self.num_slow_steps
        self._now_s += self._step_s * (50 if is_slow and self.num_slow_steps else 1)
        return self._now_s

    def _on_measured(self) -> None:
        self.num_measured += 1


async def _done(value: float) -> float:
    return value


def on_device(work: Callable[[], float]) -> Awaitable[float]:
    return _done(work())


def test_an_idle_model_is_measured_once_by_real_steps() -> None:
    measuring = Measuring()
    measuring.run()
    assert measuring.num_measured == 1 and len(measuring.executor.steps) > 10
    assert measuring.steps.step_s(StepShape(1, 100)) == pytest.approx(STEP_S, rel=0.2)
    assert measuring.pool.used_bytes == 0
    assert not measuring.advance()


def test_steps_lie_in_their_blocks_one_after_the_other() -> None:
    measuring = Measuring()
    measuring.run()
    steps = measuring.executor.steps
    passes = steps[: len(steps) // 2], steps[len(steps) // 2 :]
    known: dict[int, int] = {}  # first block of a sequence -> its tokens
    for part in itertools.chain.from_iterable(passes[0]):
        span = part.span
        assert span.start == known.get(span.block_ids[0], 0)
        assert span.length <= len(span.block_ids) * measuring.model.kv.block_tokens
        assert len(part.token_ids) == span.num_new and all(0 <= t < VOCAB_SIZE for t in part.token_ids)
        known[span.block_ids[0]] = span.length
    blocks = [set(part.span.block_ids) for step in passes[0] for part in step if part.span.start == 0]
    assert len(set.union(*blocks)) == sum(map(len, blocks)), "sequences share no block"
    spans = [[[part.span for part in step] for step in one_pass] for one_pass in passes]
    assert spans[0] == spans[1]


def test_work_comes_first_and_gets_all_memory_then_it_begins_anew() -> None:
    measuring = Measuring()
    assert measuring.advance() and measuring.pool.used_bytes > 0
    sequence = WorkerSequence(submit(), now_s=0.0)
    measuring.model.waiting.add(sequence)
    assert measuring.advance(), "the next plan may find room"
    assert measuring.pool.used_bytes == 0
    num_steps = len(measuring.executor.steps)
    assert not measuring.advance() and len(measuring.executor.steps) == num_steps
    measuring.model.waiting.remove(sequence)
    measuring.run()
    assert measuring.num_measured == 1


def test_a_moment_between_two_requests_is_not_used() -> None:
    measuring = Measuring(step_s=QUIET_S / 4)
    measuring.calibration.pause()
    for _ in range(3):
        assert not measuring.advance() and not measuring.executor.steps
    assert measuring.advance() and measuring.executor.steps


def test_nothing_is_brought_in_for_it() -> None:
    measuring = Measuring()
    measuring.blobs.mapped.clear()
    assert not measuring.advance() and not measuring.executor.steps
    measuring.blobs.mapped.add(MODEL)
    measuring.run()
    assert measuring.num_measured == 1


def test_with_little_memory_for_kv_it_takes_fewer_sequences() -> None:
    measuring = Measuring(num_blocks=120)  # one long sequence of 432 tokens takes 108
    measuring.run()
    assert measuring.num_measured == 1 and all(len(step) == 1 for step in measuring.executor.steps)


def test_without_memory_for_one_sequence_steps_of_requests_have_to_do() -> None:
    measuring = Measuring(num_blocks=20)
    assert not measuring.advance() and measuring.pool.used_bytes == 0


def test_a_slow_model_is_measured_by_few_steps() -> None:
    measuring = Measuring(step_s=MOST_S * 0.4)
    measuring.run()
    assert measuring.num_measured == 1 and len(measuring.executor.steps) == 3


def test_a_model_that_fails_is_not_tried_again() -> None:
    measuring = Measuring()
    measuring.executor.error = ValueError("bad")
    measuring.run()
    assert measuring.num_measured == 0 and measuring.pool.used_bytes == 0
    assert not measuring.advance()


def test_a_model_that_is_gone_leaves_nothing_behind() -> None:
    measuring = Measuring()
    assert measuring.advance()
    del measuring.models[MODEL]
    measuring.run()
    assert measuring.pool.used_bytes == 0 and measuring.num_measured == 0


def test_of_two_passes_the_quicker_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    measuring = Measuring()
    measuring.num_slow_steps = 3
    learnt_s: list[float] = []
    monkeypatch.setattr(MeasuredCosts, "observe", lambda self, shape, seconds: learnt_s.append(seconds))
    measuring.run()
    assert learnt_s == [pytest.approx(STEP_S)] * len(learnt_s) and learnt_s
