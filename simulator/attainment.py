"""How well requests were served: the share of their tokens that were written when they were due."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.ids import ModelName, RequestId
from simulator.workload import Request


@dataclass(frozen=True, slots=True)
class Attainment:
    share: float  # of all tokens that were due; what never came is late
    by_model: Mapping[ModelName, float]
    num_requests: int
    num_tokens: int  # due
    ttft_s: Mapping[str, float]  # "p50", "p90", "p99" of the requests that got a token


def attainment(requests: Iterable[Request], written_at_s: Mapping[RequestId, Sequence[float]]) -> Attainment:
    """written_at_s: of each request's tokens, as far as they came."""
    due: defaultdict[ModelName, int] = defaultdict(int)
    on_time: defaultdict[ModelName, int] = defaultdict(int)
    ttfts_s: list[float] = []
    num_requests = 0
    for request in requests:
        num_requests += 1
        written = written_at_s.get(request.request_id, ())
        due[request.model] += request.num_output_tokens
        on_time[request.model] += num_on_time(request, written)
        if written:
            ttfts_s.append(written[0] - request.arrives_at_s)
    ttfts_s.sort()
    num_tokens = sum(due.values())
    return Attainment(
        share=sum(on_time.values()) / num_tokens if num_tokens else 1.0,
        by_model={model: on_time[model] / due[model] for model in sorted(due)},
        num_requests=num_requests,
        num_tokens=num_tokens,
        ttft_s={f"p{percent}": _percentile(ttfts_s, percent / 100) for percent in (50, 90, 99)},
    )


def num_on_time(request: Request, written_at_s: Sequence[float]) -> int:
    first_due_at_s, tbt_s = request.arrives_at_s + request.slo.ttft_s, request.slo.tbt_s
    return sum(at_s <= first_due_at_s + index * tbt_s for index, at_s in enumerate(written_at_s))


def _percentile(ascending: Sequence[float], share: float) -> float:
    """0 of nothing."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))] if ascending else 0.0
