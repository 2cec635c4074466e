"""Policies by name, each with the workers that it runs on."""

from collections.abc import Callable, Mapping
from typing import Final

from gpu_worker.scheduling.deadline import Deadline
from gpu_worker.scheduling.policy import Policy
from gpu_worker.scheduling.round_robin import RoundRobin
from simulator.run import Outcome, Window, simulate
from simulator.setup import Setup

_MAKERS: Final[Mapping[str, Callable[[], Policy]]] = {"round-robin": RoundRobin, "deadline": Deadline}
NAMES: Final = tuple(_MAKERS)


def simulate_policy(name: str, setup: Setup, requests_per_s: float, window: Window, seed: int) -> Outcome:
    spec = setup.worker(setup.models())
    return simulate(spec, _MAKERS[name](), setup.workload(requests_per_s), window, seed)
