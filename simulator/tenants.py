"""Tenants that share a worker: each with a load of its own, and how soon each got its first tokens."""

from collections.abc import Sequence
from math import inf

from gpu_worker.scheduling.policy import Policy
from simulator.run import Window
from simulator.sequence import SimulatedSequence
from simulator.worker import SimulatedWorker, WorkerSpec
from simulator.workload import Request, Workload


def merged(workloads: Sequence[Workload], seconds: float, seed: int) -> list[Request]:
    """In the order of arrival. One tenant's requests are the same, whoever else comes."""
    requests = [request for workload in workloads for request in workload.requests(seconds, seed)]
    return sorted(requests, key=lambda request: request.arrives_at_s)


def ttfts_s(
    spec: WorkerSpec, policy: Policy, workloads: Sequence[Workload], window: Window, seed: int
) -> dict[str, list[float]]:
    """Of each tenant's requests that arrive within the window, ascending; inf where no token came until its end."""
    until_s = window.warm_up_s + window.measured_s
    requests = merged(workloads, until_s, seed)
    sequences = [(request.arrives_at_s, SimulatedSequence(request)) for request in requests]
    SimulatedWorker(spec, policy).run(sequences, until_s)
    found: dict[str, list[float]] = {workload.tenant: [] for workload in workloads}
    for arrived_at_s, sequence in sequences:
        if arrived_at_s >= window.warm_up_s:
            written = sequence.written_at_s
            found[sequence.tenant].append(written[0] - arrived_at_s if written else inf)
    return {tenant: sorted(waits_s) for tenant, waits_s in found.items()}
