"""Simulated workers whose figures are easy to follow."""

from collections.abc import Sequence

from gpu_worker.memory.arena import ALIGN_BYTES
from gpu_worker.scheduling.costs import StepCosts
from gpu_worker.scheduling.policy import Limits, Policy
from gpu_worker.scheduling.round_robin import RoundRobin
from shared.ids import ModelName, RequestId
from shared.slo import Slo
from simulator.model import ModelSpec
from simulator.sequence import SimulatedSequence
from simulator.worker import HandOver, SimulatedWorker, WorkerSpec
from simulator.workload import Request

STEP_S = 0.01  # of any step
COPY_S = 1.0  # of a model's weights
BLOB_BYTES = ALIGN_BYTES
KV_TOKEN_BYTES = 4096
BLOCK_TOKENS = 4


def worker(
    num_models: int,
    num_places: int,
    *,
    policy: Policy | None = None,
    kv_bytes: int = 64 << 20,
    turn_steps: int = 1,
    max_running: int = 64,
    beside_steps: bool = True,
    hand_over: HandOver | None = None,
    last_layer: float = 0.0,
) -> SimulatedWorker:
    costs = StepCosts(base_s=STEP_S, prefill_s=0.0, pair_s=0.0, decode_s=0.0, context_s=0.0)
    models = [ModelSpec(name(i), costs, BLOB_BYTES, KV_TOKEN_BYTES, last_layer) for i in range(num_models)]
    limits = Limits(64, max_running, turn_steps, BLOCK_TOKENS, copies_beside_steps=beside_steps)
    spec = WorkerSpec(
        models,
        num_places,
        link_bytes_per_s=BLOB_BYTES / COPY_S,
        limits=limits,
        kv_bytes=kv_bytes,
        slab_bytes=BLOCK_TOKENS * KV_TOKEN_BYTES,
        loop_s=0.0,
    )
    return SimulatedWorker(spec, policy or RoundRobin(), hand_over)


def name(number: int) -> ModelName:
    return ModelName(f"m{number}")


def sequences(*requests: tuple[float, int, int, int]) -> list[tuple[float, SimulatedSequence]]:
    """Of (arrival, model, tokens of the prompt, tokens of the output)."""
    return [
        (at_s, SimulatedSequence(Request(RequestId(f"r{i:03}"), name(model), at_s, prompt, output, Slo(1.0, 0.1))))
        for i, (at_s, model, prompt, output) in enumerate(requests)
    ]


def times(arrivals: Sequence[tuple[float, SimulatedSequence]]) -> list[list[float]]:
    """When each one's tokens were written."""
    return [[round(at_s, 6) for at_s in sequence.written_at_s] for _, sequence in arrivals]
