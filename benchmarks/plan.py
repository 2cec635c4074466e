"""How long a policy takes to plan a step, with many sequences of many models, as a share of a step of 8.4 ms.

python -m benchmarks.plan [--policy aegaeon ...] [--running 256] [--waiting 1000 10000] [--models 16]
    [--tenants 1 8 1000] [--steps 3000]

The worker's own bookkeeping (served models, waiting lines, KV blocks, places for weights) carries out each plan on a
virtual clock; no model runs. Who ends is replaced by a newcomer, so as many wait at the end as at the start.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Final, TypeVar, cast, get_args

import torch

from benchmarks.markdown import save_page, table
from benchmarks.report import save
from gpu_worker.device.cpu import CpuDevice
from gpu_worker.kv.memory import KvRegion
from gpu_worker.kv.room import Room
from gpu_worker.kv.store import KvStore
from gpu_worker.memory.arena import ALIGN_BYTES
from gpu_worker.memory.prefix_index import SharedBlocks
from gpu_worker.memory.slab_pool import SlabPool
from gpu_worker.scheduling.costs import KnownCosts, StepCosts, StepShape
from gpu_worker.scheduling.policy import Limits, Turn, WorkerView
from gpu_worker.scheduling.select import make_policy
from gpu_worker.sequence import Sequence as WorkerSequence
from gpu_worker.served_model import ServedModel
from gpu_worker.weights import ArenaWeights
from shared.config import PolicyName
from shared.fair_line import OUTPUT_WEIGHT
from shared.ids import ModelName, OwnerId, RequestId
from shared.messages import Sampling, Submit

STEP_S: Final = 8.4e-3  # a decode step of a 7B model on an H800
COSTS: Final = KnownCosts(StepCosts(STEP_S, 22.6e-6, 2.8e-10, 0.102e-3, 0.044e-6), switch_s=0.3)
MEDIAN_GOAL_US: Final = 300.0
P99_GOAL_US: Final = 1000.0
POLICIES: Final = tuple(name for name in get_args(PolicyName) if name not in ("static", "dedicated"))  # round robin
NUM_PLACES: Final = 3  # for weights
SLAB_BYTES: Final = 64
MAX_PROMPT: Final = 512
MAX_OUTPUT: Final = 256
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    policy: PolicyName
    num_tenants: int
    num_waiting: int
    mean_running: float
    mean_planned: float  # sequences in a step
    plan_median_us: float
    plan_p99_us: float
    order_median_us: float
    order_p99_us: float


class PlannedWorker:
    """What the engine keeps, without device, bus and owners."""

    def __init__(self, policy: PolicyName, num_models: int, max_running: int, seed: int, num_tenants: int = 1) -> None:
        self._random = random.Random(seed)
        self._num_tenants = num_tenants
        self._policy = make_policy(policy)
        self._kv = _ample_kv(max_running)
        self._blob = torch.zeros(ALIGN_BYTES, dtype=torch.uint8)
        self._weights = ArenaWeights(torch.zeros(NUM_PLACES * ALIGN_BYTES, dtype=torch.uint8))
        names = [ModelName(f"model-{i}") for i in range(num_models)]
        shape, unused, blobs = self._kv.register(1), cast(Any, None), cast(Any, frozenset(names))
        self._models = {
            name: ServedModel(name, unused, shape, self._kv, self._weights, blobs, MAX_PROMPT + MAX_OUTPUT, COSTS)
            for name in names
        }
        self._room = Room(self._models, self._kv)
        self._limits = Limits(256, max_running, 8, CpuDevice.block_tokens)
        self._sequences: dict[RequestId, WorkerSequence] = {}
        self._num_entered = self._num_steps = self._num_steps_since_copy = 0
        self._now_s = 0.0
        self.plan_us: list[float] = []
        self.order_us: list[float] = []
        self.num_planned: list[int] = []

    @property
    def num_running(self) -> int:
        return sum(len(model.running) for model in self._models.values())

    @property
    def num_waiting(self) -> int:
        return sum(len(model.waiting) for model in self._models.values())

    def enter(self) -> None:
        self._num_entered += 1
        model = self._random.choice(list(self._models.values()))
        prompt = tuple(self._random.choices(range(1000), k=self._random.randint(1, MAX_PROMPT)))
        sampling = Sampling(max_tokens=self._random.randint(1, MAX_OUTPUT), seed=0)
        request_id = RequestId(f"request-{self._num_entered}")
        tenant = f"tenant-{self._num_entered % self._num_tenants}"
        submit = Submit(request_id, 0, OwnerId("owner"), model.name, prompt, sampling, tenant=tenant)
        sequence = self._sequences[request_id] = WorkerSequence(submit, self._now_s)
        self._now_s += 1e-6  # so that no two arrive at once
        model.waiting.add(sequence)
        self._policy.enter(model.name, sequence, self._now_s)

    def step(self) -> None:
        view = WorkerView(self._models.values(), self._limits, self._num_steps_since_copy)
        turn = _timed(self.plan_us, lambda: self._policy.plan(view, self._now_s))
        assert turn is not None, "sequences wait, and there is room"
        order = _timed(self.order_us, lambda: self._policy.turn_order(view, self._now_s))
        self.num_planned.append(len(turn.num_tokens))
        self._carry_out(turn, order)

    def _carry_out(self, turn: Turn, order: Sequence[ModelName]) -> None:
        model = self._models[turn.model]
        wanted = [(self._sequences[key], num_tokens) for key, num_tokens in turn.num_tokens.items()]
        shares = self._room.make(model, wanted)
        if not model.is_resident:
            evictable = [name for name in order if name != model.name]
            assert self._weights.place(model.name, self._blob, evictable) is not None
            self._weights.settle(model.name)
            self._num_steps_since_copy = 0
            self._now_s += COSTS.switch_s
        self._num_steps += 1
        self._num_steps_since_copy += 1
        model.last_step = self._num_steps
        self._now_s += COSTS.step_s(_shape(shares))
        for sequence, num_tokens in shares:
            sequence.num_computed_tokens += num_tokens
            if sequence.num_computed_tokens == sequence.num_tokens:
                sequence.append(self._random.randrange(1000))
                model.waiting.charge(sequence.tenant, OUTPUT_WEIGHT)
                if sequence.num_output_tokens >= sequence.max_output_tokens:
                    model.stop(sequence)
                    self._policy.leave(model.name, sequence)
                    del self._sequences[sequence.request_id]
                    self.enter()


def _ample_kv(max_running: int) -> KvStore:
    """Blocks of one byte: room for all that may run, and none in host memory."""
    num_bytes = max_running * -(-(MAX_PROMPT + MAX_OUTPUT) // CpuDevice.block_tokens)
    return KvStore(_kv_region(-(-num_bytes // SLAB_BYTES) * SLAB_BYTES), _kv_region(0), CpuDevice(unified=True))


def _kv_region(num_bytes: int) -> KvRegion:
    pool = SlabPool(num_bytes, SLAB_BYTES, 1)
    return KvRegion(SharedBlocks(pool, keep=False), torch.zeros(num_bytes, dtype=torch.uint8))


def _shape(shares: Sequence[tuple[WorkerSequence, int]]) -> StepShape:
    decoding = [s for s, _ in shares if s.num_tokens - s.num_computed_tokens == 1]
    num_prefill_tokens = sum(n for s, n in shares if s.num_tokens - s.num_computed_tokens > 1)
    return StepShape(len(decoding), sum(s.num_tokens for s in decoding), num_prefill_tokens)


def _timed(microseconds: list[float], call: Callable[[], T]) -> T:
    start_ns = time.perf_counter_ns()
    result = call()
    microseconds.append((time.perf_counter_ns() - start_ns) / 1e3)
    return result


def measure(policy: PolicyName, num_tenants: int, num_waiting: int, options: argparse.Namespace) -> Run:
    worker = PlannedWorker(policy, options.models, options.running, seed=0, num_tenants=num_tenants)
    for _ in range(options.running + num_waiting):
        worker.enter()
    for _ in range(options.warm_up):  # until as many run as may
        worker.step()
    for samples in (worker.plan_us, worker.order_us, worker.num_planned):
        samples.clear()
    num_running: list[int] = []
    for _ in range(options.steps):
        num_running.append(worker.num_running)
        worker.step()
    plan, order = (_median_and_p99(samples) for samples in (worker.plan_us, worker.order_us))
    mean_running, mean_planned = statistics.mean(num_running), statistics.mean(worker.num_planned)
    return Run(policy, num_tenants, num_waiting, mean_running, mean_planned, *plan, *order)


def _median_and_p99(samples: Sequence[float]) -> tuple[float, float]:
    return statistics.median(samples), statistics.quantiles(samples, n=100)[98]


def summary(runs: Sequence[Run]) -> str:
    header = ["policy", "tenants", "waiting", "running", "in a step", "plan µs, median", "p99", "of 8.4 ms",
              "order µs, median", "p99", "goal"]  # fmt: skip
    rows = []
    for run in runs:
        is_met = run.plan_median_us <= MEDIAN_GOAL_US and run.plan_p99_us <= P99_GOAL_US
        rows.append(
            [
                run.policy,
                f"{run.num_tenants:,}",
                f"{run.num_waiting:,}",
                f"{run.mean_running:.0f}",
                f"{run.mean_planned:.0f}",
                f"{run.plan_median_us:.0f}",
                f"{run.plan_p99_us:.0f}",
                f"{run.plan_median_us / (STEP_S * 1e6):.1%}",
                f"{run.order_median_us:.0f}",
                f"{run.order_p99_us:.0f}",
                "met" if is_met else "missed",
            ]
        )
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", choices=POLICIES, nargs="+", default=POLICIES)
    parser.add_argument("--running", type=int, default=256)
    parser.add_argument("--waiting", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--tenants", type=int, nargs="+", default=[1, 8, 1000], help="that the requests belong to")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--warm-up", type=int, default=1000, help="steps before the first measured one")
    options = parser.parse_args()
    cases = product(options.policy, options.tenants, options.waiting)
    runs = [measure(policy, tenants, waiting, options) for policy, tenants, waiting in cases]
    title = (
        f"Planning a step: {options.models} models, at most {options.running} sequences running; goal: median "
        f"{MEDIAN_GOAL_US:.0f} µs, p99 {P99_GOAL_US:.0f} µs"
    )
    found = summary(runs)
    print(f"\n{title}\n\n{found}\n")
    print(save("plan", [asdict(run) for run in runs]))
    print(save_page("plan", title, [found]))


if __name__ == "__main__":
    main()
