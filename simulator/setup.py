"""Everything that a comparison of policies states: models, memory, link, service level, load."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gpu_worker.scheduling.costs import StepCosts, StepShape
from gpu_worker.scheduling.policy import Limits
from shared.slo import Slo
from shared.units import format_size
from simulator.azure_trace import Trace
from simulator.model import ModelSpec
from simulator.worker import WorkerSpec
from simulator.workload import Workload, zipf_shares

# Pretended, of the size that a decoder of some 20 MB has on two cores. Where figures matter, give measured ones.
DEFAULT_COSTS: Final = StepCosts(base_s=4e-3, prefill_s=30e-6, pair_s=0.0, decode_s=60e-6, context_s=0.2e-6)
_USUAL_CONTEXT_TOKENS: Final = 100  # of the step that times are given in


@dataclass(frozen=True, slots=True)
class Setup:
    """N copies of a model with weights of their own on a device that has memory for k of them."""

    costs: StepCosts
    num_models: int = 8
    num_places: int = 3
    blob_bytes: int = 20 << 20
    kv_token_bytes: int = 8192
    num_layers: int = 4
    kv_bytes: int = 1 << 30
    switch_steps: float = 20.0  # copying a model's weights, in batch-1 steps
    ttft_steps: float = 1200.0
    tbt_steps: float = 12.0
    slo_scale: float = 1.0  # of both
    skew: float = 0.0  # exponent of Zipf's law over the models; 0: equal shares
    trace: Trace = "both"
    divisor: float = 10.0  # of the trace's lengths
    max_step_tokens: int = 256
    max_running: int = 256
    turn_steps: int = 8
    block_tokens: int = 16
    has_copy_engine: bool = True
    loop_s: float = 0.0002

    @property
    def step_s(self) -> float:
        """At batch 1."""
        return self.costs.step_s(StepShape(1, _USUAL_CONTEXT_TOKENS))

    @property
    def slo(self) -> Slo:
        return Slo(self.slo_scale * self.ttft_steps * self.step_s, self.slo_scale * self.tbt_steps * self.step_s)

    @property
    def link_bytes_per_s(self) -> float:
        return self.blob_bytes / (self.switch_steps * self.step_s)

    def at_costs(self, costs: StepCosts, loop_s: float) -> "Setup":
        """Service levels, link and load stay in seconds, and only steps take something else."""
        steps = self.step_s / costs.step_s(StepShape(1, _USUAL_CONTEXT_TOKENS))
        return replace(
            self,
            costs=costs,
            loop_s=loop_s,
            switch_steps=self.switch_steps * steps,
            ttft_steps=self.ttft_steps * steps,
            tbt_steps=self.tbt_steps * steps,
        )

    def models(self) -> list[ModelSpec]:
        shares = zipf_shares(self.num_models, self.skew)
        return [
            ModelSpec(name, self.costs, self.blob_bytes, self.kv_token_bytes, 1 / self.num_layers) for name, _ in shares
        ]

    def worker(self, models: Sequence[ModelSpec]) -> WorkerSpec:
        limits = Limits(
            self.max_step_tokens,
            self.max_running,
            self.turn_steps,
            self.block_tokens,
            copies_beside_steps=self.has_copy_engine,
        )
        return WorkerSpec(
            models, self.num_places, self.link_bytes_per_s, limits, kv_bytes=self.kv_bytes, loop_s=self.loop_s
        )

    def workload(self, requests_per_s: float) -> Workload:
        shares = zipf_shares(self.num_models, self.skew)
        return Workload(shares, requests_per_s, self.slo, self.trace, self.divisor)

    def facts(self) -> dict[str, str]:
        slo = self.slo
        return {
            "models": f"{self.num_models} of {format_size(self.blob_bytes)}, memory for {self.num_places}",
            "step at batch 1": f"{self.step_s * 1e3:.2f} ms",
            "switch": f"{self.switch_steps:g} steps, {self.switch_steps * self.step_s * 1e3:.0f} ms "
            f"over {self.link_bytes_per_s / 1e6:.0f} MB/s",
            "first token due": f"{self.slo_scale * self.ttft_steps:g} steps, {slo.ttft_s:.2f} s",
            "between tokens": f"{self.slo_scale * self.tbt_steps:g} steps, {slo.tbt_s * 1e3:.1f} ms",
            "lengths": f"Azure's traces of 2023 ({self.trace}) / {self.divisor:g}",
            "arrivals": "Poisson, " + ("equal shares" if self.skew == 0 else f"Zipf's law, exponent {self.skew:g}"),
        }
