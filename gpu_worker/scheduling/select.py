"""The policies by their names."""

from typing import assert_never

from gpu_worker.scheduling.aegaeon import Aegaeon
from gpu_worker.scheduling.deadline import MAX_WAIT_S, MIN_TURN, Deadline
from gpu_worker.scheduling.policy import Policy
from gpu_worker.scheduling.request_level import RequestLevel, first_come, shortest_job
from gpu_worker.scheduling.round_robin import RoundRobin
from shared.config import PolicyName


def make_policy(name: PolicyName, *, min_turn: float = MIN_TURN, max_wait_s: float = MAX_WAIT_S) -> Policy:
    match name:
        case "deadline":
            return Deadline(min_turn=min_turn, max_wait_s=max_wait_s)
        case "aegaeon":
            return Aegaeon()
        case "request":
            return RequestLevel(first_come)
        case "request-batch":
            return RequestLevel(first_come, overtaking=True)
        case "request-sjf":
            return RequestLevel(shortest_job)
        case "round-robin" | "static" | "dedicated":  # the last two: a worker takes only models that stay resident
            return RoundRobin()
        case unknown:
            assert_never(unknown)
