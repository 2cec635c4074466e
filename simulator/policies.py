"""Policies by name, each with the workers that it runs on."""

from typing import Final, cast, get_args

from gpu_worker.scheduling.aegaeon import AegaeonDecode, AegaeonPrefill
from gpu_worker.scheduling.select import make_policy
from shared.config import PolicyName
from simulator.model import ModelSpec
from simulator.run import Outcome, Window, simulate, simulate_split
from simulator.setup import Setup

SPLIT: Final = "aegaeon-split"  # one worker for prompts, one for decoding
NAMES: Final = tuple(dict.fromkeys((*get_args(PolicyName), SPLIT)))


def num_workers(name: str) -> int:
    return 2 if name == SPLIT else 1


def served_models(name: str, setup: Setup) -> list[ModelSpec]:
    """What a worker with this policy takes of the models; it refuses requests for the others."""
    models = setup.models()
    return models[: {"static": setup.num_places, "dedicated": 1}.get(name, len(models))]


def simulate_policy(name: str, setup: Setup, requests_per_s: float, window: Window, seed: int) -> Outcome:
    spec, workload = setup.worker(served_models(name, setup)), setup.workload(requests_per_s)
    if name == SPLIT:
        return simulate_split(spec, AegaeonPrefill(), AegaeonDecode(), workload, window, seed)
    return simulate(spec, make_policy(cast(PolicyName, name)), workload, window, seed)
