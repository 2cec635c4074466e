"""One run: requests through a worker, and how they fared."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpu_worker.scheduling.policy import Policy
from simulator.attainment import Attainment, attainment
from simulator.sequence import SimulatedSequence
from simulator.worker import Activity, SimulatedWorker, WorkerSpec
from simulator.workload import Request, Workload


@dataclass(frozen=True, slots=True)
class Window:
    """Requests that arrive within [warm_up_s, warm_up_s + measured_s) count; the load goes on until theirs are due."""

    warm_up_s: float = 10.0
    measured_s: float = 60.0

    def measured(self, requests: Sequence[Request]) -> list[Request]:
        end_s = self.warm_up_s + self.measured_s
        return [request for request in requests if self.warm_up_s <= request.arrives_at_s < end_s]

    def times_longer(self, factor: float) -> "Window":
        return Window(self.warm_up_s * factor, self.measured_s * factor)

    def total_s(self, ttft_s: float) -> float:
        return self.warm_up_s + self.measured_s + ttft_s


@dataclass(frozen=True, slots=True)
class Outcome:
    attainment: Attainment
    activities: tuple[Activity, ...]  # of each worker


def simulate(spec: WorkerSpec, policy: Policy, workload: Workload, window: Window, seed: int) -> Outcome:
    """policy: a fresh one. Requests for models that the worker has not are refused: their tokens never come."""
    requests = workload.requests(window.total_s(workload.slo.ttft_s), seed)
    worker = SimulatedWorker(spec, policy)
    arrivals = _arrivals(request for request in requests if request.model in worker.models)
    worker.run(arrivals, last_due_at_s(window.measured(requests)))
    return _outcome(window.measured(requests), arrivals, worker.activity)


def simulate_split(
    spec: WorkerSpec, prefill: Policy, decode: Policy, workload: Workload, window: Window, seed: int
) -> Outcome:
    """Two workers of that kind: one computes prompts and first tokens, the other goes on with their KV, which each of
    them copies over a link of its own. The first one never hears of the second, so they are simulated in that order.
    """
    requests = workload.requests(window.total_s(workload.slo.ttft_s), seed)
    until_s = last_due_at_s(window.measured(requests))
    handed_over: list[tuple[float, SimulatedSequence]] = []
    first = SimulatedWorker(spec, prefill, lambda sequence, now_s: handed_over.append((now_s, sequence)))
    arrivals = _arrivals(requests)
    first.run(arrivals, until_s)
    second = SimulatedWorker(spec, decode)
    second.run(handed_over, until_s)
    return _outcome(window.measured(requests), arrivals, first.activity, second.activity)


def _arrivals(requests: Iterable[Request]) -> list[tuple[float, SimulatedSequence]]:
    return [(request.arrives_at_s, SimulatedSequence(request)) for request in requests]


def _outcome(
    measured: Sequence[Request], arrivals: Iterable[tuple[float, SimulatedSequence]], *activities: Activity
) -> Outcome:
    written = {sequence.request_id: sequence.written_at_s for _, sequence in arrivals}
    return Outcome(attainment(measured, written), activities)


def last_due_at_s(requests: Sequence[Request]) -> float:
    """After that no token can be on time."""
    return max((r.arrives_at_s + r.slo.due_s(r.num_output_tokens - 1) for r in requests), default=0.0)
