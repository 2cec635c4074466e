"""Requests that arrive by chance: equal seeds give equal requests, in the simulator and on a real worker."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from shared.ids import ModelName, RequestId
from shared.slo import Slo
from simulator.azure_trace import Trace, draw_lengths


@dataclass(frozen=True, slots=True)
class Request:
    request_id: RequestId
    model: ModelName
    arrives_at_s: float
    num_prompt_tokens: int
    num_output_tokens: int
    slo: Slo
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """Poisson arrivals over the models."""

    shares: Sequence[tuple[ModelName, float]]  # of the requests; they need not add up to 1
    requests_per_s: float
    slo: Slo
    trace: Trace = "both"
    divisor: float = 10.0  # of the trace's lengths
    tenant: str = ""

    def requests(self, seconds: float, seed: int) -> list[Request]:
        """In the order of arrival, all within `seconds`. The same lengths and models come at another rate."""
        rng = random.Random(seed)
        names, weights = [name for name, _ in self.shares], [share for _, share in self.shares]
        requests: list[Request] = []
        now_s = rng.expovariate(1.0) / self.requests_per_s
        while now_s < seconds:
            (model,) = rng.choices(names, weights)
            num_prompt, num_output = draw_lengths(rng, self.trace, self.divisor)
            request_id = RequestId(f"{self.tenant}r{len(requests):06}")
            requests.append(Request(request_id, model, now_s, num_prompt, num_output, self.slo, self.tenant))
            now_s += rng.expovariate(1.0) / self.requests_per_s
        return requests


def equal_shares(num_models: int) -> list[tuple[ModelName, float]]:
    return zipf_shares(num_models, 0.0)


def zipf_shares(num_models: int, exponent: float) -> list[tuple[ModelName, float]]:
    """The n-th model has 1 / n ** exponent of the first one's requests."""
    return [(ModelName(f"model-{i:02}"), 1.0 / (i + 1) ** exponent) for i in range(num_models)]
