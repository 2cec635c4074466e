"""The token loop over stubs: what takes long is done at once, and each look at the clock takes a while."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from gpu_worker.calibration import QUIET_S, Expected
from gpu_worker.device.base import SequenceSpan
from gpu_worker.device.cpu import CpuDevice
from gpu_worker.engine import Engine
from gpu_worker.execution.executor import Executor, PartOutput, StepPart
from gpu_worker.memory.slab_pool import SlabPool
from gpu_worker.metrics import EngineMetrics
from gpu_worker.outbox import Outbox
from gpu_worker.roster import Roster
from gpu_worker.scheduling.costs import StepShape
from gpu_worker.scheduling.policy import Limits
from gpu_worker.scheduling.round_robin import RoundRobin
from gpu_worker.sequence import Sequence as WorkerSequence
from gpu_worker.served_model import ServedModel
from gpu_worker.weights import Placement
from shared import subjects
from shared.errors import ModelError
from shared.ids import ModelName, RequestId
from shared.memory_bus import MemoryBroker
from shared.messages import AnyMessage, Frame, ModelSwitched, SequenceTokens
from shared.slo import DEFAULT_TTFT_S
from shared.telemetry import Registry
from tests.unit.gpu_worker.stand_ins import BLOCK_TOKENS, COSTS, LIFE, OWNER, WORKER, assign, cancel, kv_store

Step = Callable[[Sequence[StepPart]], list[PartOutput]]
TIMEOUT_S = 10.0
VOCAB_SIZE = 50


def tokens_of(parts: Sequence[StepPart]) -> list[PartOutput]:
    """42 for each sequence that asks for a token."""
    return [PartOutput(42 if part.sampling else None) for part in parts]


class StubExecutor:
    def __init__(self, step: Step) -> None:
        self._step = step

    def step(self, parts: Sequence[StepPart], stream: None = None) -> list[PartOutput]:
        return self._step(parts)

    def bind(self, base: Tensor) -> None:
        return None

    def release(self) -> None:
        return None


class StubWeights:
    """Blobs, and a place for each of them. What is missing comes when the test lets it."""

    def __init__(self) -> None:
        self.missing: set[ModelName] = set()
        self.asked: asyncio.Queue[ModelName] = asyncio.Queue()
        self.may_come = asyncio.Event()
        self.error: ModelError | None = None
        self.num_held: Counter[ModelName] = Counter()

    def __contains__(self, model: ModelName) -> bool:
        return model not in self.missing

    def is_placed(self, model: ModelName) -> bool:
        return False

    def is_resident(self, model: ModelName) -> bool:
        return True

    def resident(self, model: ModelName) -> Tensor | None:
        return torch.empty(1, dtype=torch.uint8)

    def place(
        self, model: ModelName, blob: Tensor, evictable: Sequence[ModelName], turns: Sequence[ModelName] = ()
    ) -> Placement:
        return Placement(blob, None)

    def settle(self, model: ModelName) -> None:
        return None

    def drop(self, model: ModelName) -> None:
        return None

    def let_go(self, model: ModelName) -> None:
        self.missing.add(model)

    def forget(self, model: ModelName) -> None:
        return None

    def get(self, model: ModelName) -> Tensor:
        return torch.empty(1, dtype=torch.uint8)

    async def fetch(self, model: ModelName) -> None:
        self.asked.put_nowait(model)
        await self.may_come.wait()
        if self.error is not None:
            raise self.error
        self.missing.discard(model)

    @contextmanager
    def hold(self, model: ModelName) -> Iterator[None]:
        self.num_held[model] += 1
        yield
        self.num_held[model] -= 1


class WatchedModel(ServedModel):
    """Sets an event when a sequence gives back what it holds."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.stopped = asyncio.Event()

    def stop(self, sequence: WorkerSequence) -> None:
        super().stop(sequence)
        self.stopped.set()


class Running:
    """An engine, its bus, and what its owner hears."""

    def __init__(self, steps: dict[str, Step], look_s: float) -> None:
        broker = MemoryBroker()
        self.bus, self.owner_bus = broker.connect(), broker.connect()
        policy = RoundRobin()
        self.roster = Roster(Outbox(WORKER, LIFE), policy, max_sequences=10)
        self.pool = SlabPool(16, 1, 1)
        kv = kv_store(self.pool)
        self.weights = weights = StubWeights()
        looks = itertools.count()
        self.clock = lambda: next(looks) * look_s
        limits = Limits(max_step_tokens=8, max_running=4, turn_steps=2, block_tokens=BLOCK_TOKENS)
        self.engine = Engine(
            WORKER, self.bus, self.roster, policy, limits, kv, weights, weights, CpuDevice(unified=True),
            clock=self.clock, metrics=EngineMetrics(Registry()),
        )  # fmt: skip
        for name, step in steps.items():
            executor = cast(Executor, cast(Any, StubExecutor(step)))
            self.model = WatchedModel(ModelName(name), executor, kv.register(1), kv, weights, weights, 64, COSTS)
            self.roster.models[self.model.name] = self.model
        self.heard: list[SequenceTokens] = []
        self.switches: list[ModelSwitched] = []
        self._ends: dict[RequestId, asyncio.Event] = {}

    def submit(self, request: str, model: str, num_tokens: int) -> None:
        self._ends[RequestId(request)] = asyncio.Event()
        self.engine.receive(assign(request, model=model, max_tokens=num_tokens))

    def on_message(self, message: AnyMessage) -> None:
        if isinstance(message, ModelSwitched):
            self.switches.append(message)
        if isinstance(message, Frame):
            self.heard += message.sequences
            for entry in message.sequences:
                if entry.ended:
                    self._ends[entry.request_id].set()

    async def ended(self, request: str) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await self._ends[RequestId(request)].wait()

    def num_tokens(self, request: str) -> int:
        return sum(len(entry.token_ids) for entry in self.heard if entry.request_id == request)

    def reasons(self) -> list[str]:
        return [entry.ended.reason for entry in self.heard if entry.ended]


@asynccontextmanager
async def running(steps: dict[str, Step], look_s: float = 1.0) -> AsyncIterator[Running]:
    """look_s: seconds that go by with each look at the clock."""
    worker = Running(steps, look_s)
    await worker.bus.start()
    await worker.owner_bus.start()
    for subject in (subjects.owner(OWNER), subjects.EVENT_MODEL_SWITCHED):
        await worker.owner_bus.subscribe(subject, worker.on_message)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(worker.engine.run())
        yield worker
        task.cancel()


async def test_prompts_in_chunks_then_token_by_token() -> None:
    """3 tokens of prompt, 8 a step."""
    spans: list[list[tuple[int, int]]] = []

    def step(parts: Sequence[StepPart]) -> list[PartOutput]:
        spans.append([(part.span.start, part.span.num_new) for part in parts])
        assert all(len(part.token_ids) == part.span.num_new for part in parts)
        assert all(len(part.span.block_ids) * BLOCK_TOKENS >= part.span.length for part in parts)
        return tokens_of(parts)

    async with running({"m": step}) as worker:
        for request in "abc":
            worker.submit(request, "m", num_tokens=2)
        for request in "abc":
            await worker.ended(request)
    assert spans == [[(0, 3), (0, 3), (0, 2)], [(3, 1), (3, 1), (2, 1)], [(3, 1)]]
    assert worker.reasons() == ["length"] * 3
    assert worker.pool.used_bytes == 0


class ObservedCosts:
    switch_s = 0.0

    def __init__(self) -> None:
        self.steps: list[tuple[StepShape, float]] = []

    def step_s(self, shape: StepShape) -> float:
        return 1.0

    def observe(self, shape: StepShape, seconds: float) -> None:
        self.steps.append((shape, seconds))


async def test_costs_hear_of_each_step_what_it_held_and_what_it_took() -> None:
    async with running({"m": tokens_of}) as worker:
        worker.model.costs = costs = ObservedCosts()
        for request in "abc":
            worker.submit(request, "m", num_tokens=2)
        for request in "abc":
            await worker.ended(request)
    shapes = [StepShape(0, 0, 8, 6 + 6 + 3), StepShape(3, 4 + 4 + 3), StepShape(1, 4)]
    assert costs.steps == [(shape, 1.0) for shape in shapes]  # from one look at the clock to the next


async def test_an_idle_worker_measures_a_model_and_work_takes_over() -> None:
    measured = asyncio.Event()
    async with running({"m": tokens_of}, look_s=QUIET_S / 2) as worker:
        worker.model.costs = ObservedCosts()
        worker.engine.calibrate(worker.model.name, Expected(VOCAB_SIZE, measured.set))
        worker.submit("r", "m", num_tokens=3)
        await worker.ended("r")
        assert worker.num_tokens("r") == 3
        async with asyncio.timeout(TIMEOUT_S):
            await measured.wait()
    assert worker.pool.used_bytes == 0


async def test_deadlines_count_from_when_a_request_came_however_long_a_step_kept_it_waiting() -> None:
    first_due_at_s: list[float] = []

    def step(parts: Sequence[StepPart]) -> list[PartOutput]:
        found = (worker.roster.get(RequestId(request)) for request in "ab")
        first_due_at_s[:] = [sequence.first_due_at_s for sequence in found if sequence]
        return tokens_of(parts)

    async with running({"m": step}) as worker:  # the loop begins when this task waits
        came_at_s = worker.clock()
        for request in "ab":
            worker.submit(request, "m", num_tokens=1)
        for request in "ab":
            await worker.ended(request)
    assert first_due_at_s == [came_at_s + 1 + DEFAULT_TTFT_S, came_at_s + 2 + DEFAULT_TTFT_S]


async def test_an_owner_that_does_not_beat_is_freed() -> None:
    async with running({"m": tokens_of}) as worker:
        worker.submit("r", "m", num_tokens=40)
        async with asyncio.timeout(TIMEOUT_S):
            await worker.model.stopped.wait()
    assert 0 < worker.num_tokens("r") < 10
    assert worker.reasons() == []
    assert worker.pool.used_bytes == 0


async def test_a_worker_that_is_cut_off_does_not_blame_its_owners() -> None:
    async with running({"m": tokens_of}) as worker:
        worker.bus.disconnect()
        worker.submit("r", "m", num_tokens=40)
        async with asyncio.timeout(TIMEOUT_S):
            await worker.model.stopped.wait()
        worker.bus.reconnect()
        await worker.ended("r")
    assert (worker.num_tokens("r"), worker.reasons()) == (40, ["length"])


async def test_a_model_whose_steps_fail_does_not_starve_others() -> None:
    """Each failure is answered with a new request."""
    num_failures = 0

    def fail(parts: Sequence[StepPart]) -> list[PartOutput]:
        nonlocal num_failures
        num_failures += 1
        loop.call_soon_threadsafe(worker.submit, f"bad-{num_failures}", "bad", 1)
        raise RuntimeError("a secret")

    loop = asyncio.get_running_loop()
    async with running({"bad": fail, "good": tokens_of}) as worker:
        worker.submit("bad-0", "bad", 1)
        worker.submit("good", "good", num_tokens=4)
        await worker.ended("good")
    assert worker.num_tokens("good") == 4
    assert 1 <= num_failures <= 6
    errors = [entry.ended for entry in worker.heard if entry.ended and entry.ended.reason == "error"]
    assert {error.message for error in errors} == {"the step failed"}


async def test_what_arrives_during_a_step_takes_effect_after_it() -> None:
    def step(parts: Sequence[StepPart]) -> list[PartOutput]:
        spans.append(parts[0].span)
        if len(spans) == 3:
            loop.call_soon_threadsafe(worker.engine.receive, cancel("r"))
            loop.call_soon_threadsafe(received.set)
            assert asyncio.run_coroutine_threadsafe(received.wait(), loop).result(TIMEOUT_S)
        return tokens_of(parts)

    spans: list[SequenceSpan] = []
    loop, received = asyncio.get_running_loop(), asyncio.Event()
    async with running({"m": step}) as worker:
        worker.submit("r", "m", num_tokens=40)
        await worker.ended("r")
    assert len(spans) == 3
    assert (worker.num_tokens("r"), worker.reasons()) == (3, ["cancelled"])
    assert worker.pool.used_bytes == 0


async def test_others_run_while_weights_come_from_disk() -> None:
    async with running({"missing": tokens_of, "there": tokens_of}, look_s=0.01) as worker:
        worker.weights.missing.add(ModelName("missing"))
        worker.submit("a", "missing", num_tokens=2)
        async with asyncio.timeout(TIMEOUT_S):
            assert await worker.weights.asked.get() == "missing"
        worker.submit("b", "there", num_tokens=4)
        await worker.ended("b")
        assert worker.num_tokens("a") == 0
        worker.weights.may_come.set()
        await worker.ended("a")
        worker.submit("c", "there", num_tokens=1)
        await worker.ended("c")
        assert (worker.num_tokens("a"), worker.weights.asked.empty()) == (2, True)
        assert worker.weights.num_held == {"missing": 0, "there": 0}
    kinds = [(switch.model, switch.kind) for switch in worker.switches]
    assert kinds == [("there", "resident"), ("missing", "from disk"), ("there", "resident")]
    assert worker.switches[1].waited_s > worker.switches[2].waited_s > 0


async def test_a_model_leaves_when_its_sequences_have_ended_and_its_fetch_is_over() -> None:
    missing, there = ModelName("missing"), ModelName("there")
    gone: dict[ModelName, asyncio.Event] = {name: asyncio.Event() for name in (missing, there)}
    async with running({missing: tokens_of, there: tokens_of}, look_s=0.01) as worker, asyncio.timeout(TIMEOUT_S):
        worker.weights.missing.add(missing)
        worker.submit("a", missing, num_tokens=2)
        await worker.weights.asked.get()
        worker.engine.receive(cancel("a"))
        worker.engine.retire(missing, gone[missing].set)
        worker.submit("b", there, num_tokens=4)
        await worker.ended("b")
        assert not gone[missing].is_set()  # its blob is on its way
        worker.weights.may_come.set()
        await gone[missing].wait()
        assert worker.weights.num_held == {missing: 0, there: 0}
        worker.engine.retire(there, gone[there].set)
        await gone[there].wait()
        assert not worker.roster.models
        worker.submit("c", there, num_tokens=1)
        await worker.ended("c")
    assert worker.reasons() == ["cancelled", "length", "error"]


async def test_weights_that_do_not_come_fail_their_sequences_only() -> None:
    async with running({"bad": tokens_of, "good": tokens_of}, look_s=0.01) as worker:
        worker.weights.missing.add(ModelName("bad"))
        worker.weights.error = ModelError("/bad is corrupt")
        worker.submit("a", "bad", num_tokens=2)
        worker.submit("b", "bad", num_tokens=2)
        worker.submit("c", "good", num_tokens=2)
        async with asyncio.timeout(TIMEOUT_S):
            assert await worker.weights.asked.get() == "bad"
        worker.weights.may_come.set()
        for request in "abc":
            await worker.ended(request)
        assert worker.weights.num_held.total() == 0
    ends = {entry.request_id: entry.ended.message for entry in worker.heard if entry.ended}
    assert ends == {"a": "/bad is corrupt", "b": "/bad is corrupt", "c": ""}
