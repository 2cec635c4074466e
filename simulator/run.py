"""One run: requests through a worker, and how they fared."""

from collections.abc import Sequence
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
    sequences = [SimulatedSequence(request) for request in requests if request.model in worker.models]
    arrivals = [(s.first_due_at_s - workload.slo.ttft_s, s) for s in sequences]
    worker.run(arrivals, last_due_at_s(window.measured(requests)))
    written = {sequence.request_id: sequence.written_at_s for sequence in sequences}
    return Outcome(attainment(window.measured(requests), written), (worker.activity,))


def last_due_at_s(requests: Sequence[Request]) -> float:
    """After that no token can be on time."""
    return max((r.arrives_at_s + r.slo.due_s(r.num_output_tokens - 1) for r in requests), default=0.0)
