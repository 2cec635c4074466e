"""What the clients of a load saw, in numbers. Pure."""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from cli.load_test.request import Measured
from shared.slo import Slo


class Percentiles(msgspec.Struct, frozen=True):
    """Seconds; the smallest values that so many percent don't exceed."""

    p50: float
    p90: float
    p99: float
    mean: float


class Seen(msgspec.Struct, frozen=True):
    """Of one model, or of all."""

    model: str  # empty: all
    num_requests: int
    num_failed: int
    num_prompt_tokens: int  # as the server counts them; 0: it does not say
    num_output_tokens: int
    ttft_s: Percentiles | None  # null: nothing came
    tbt_s: Percentiles | None  # between tokens; 0 between those of one chunk
    e2e_s: Percentiles | None  # of whole answers
    attainment: float  # share of the tokens asked for that came on time
    errors: dict[str, int]  # how often each


class Summary(msgspec.Struct, frozen=True):
    """What `kottos bench serve --json` prints."""

    url: str
    duration_s: float
    requests_per_s: float  # that ended well
    output_tokens_per_s: float
    slo: dict[str, float]  # ttft_s, tbt_s
    models: list[Seen]
    all: Seen


def summary(url: str, measured: Sequence[Measured], duration_s: float, slo: Slo) -> Summary:
    models = sorted({each.planned.model for each in measured})
    whole = _seen("", measured, slo)
    return Summary(
        url,
        duration_s,
        (whole.num_requests - whole.num_failed) / duration_s,
        whole.num_output_tokens / duration_s,
        {"ttft_s": slo.ttft_s, "tbt_s": slo.tbt_s},
        [_seen(model, [each for each in measured if each.planned.model == model], slo) for model in models],
        whole,
    )


def _seen(model: str, measured: Sequence[Measured], slo: Slo) -> Seen:
    answered = [each for each in measured if each.token_at_s]
    good = [each for each in measured if not each.error]
    gaps_s = [b - a for each in answered for a, b in zip(each.token_at_s, each.token_at_s[1:], strict=False)]
    return Seen(
        model,
        len(measured),
        len(measured) - len(good),
        sum(each.num_prompt_tokens for each in measured),
        sum(each.num_output_tokens for each in measured),
        percentiles([each.token_at_s[0] - each.arrived_at_s for each in answered]),
        percentiles(gaps_s),
        percentiles([each.ended_at_s - each.arrived_at_s for each in good]),
        _attainment(measured, slo),
        dict(Counter(each.error for each in measured if each.error)),
    )


def _attainment(measured: Sequence[Measured], slo: Slo) -> float:
    """A failed request's missing tokens are late; one that ends early owes no more than it gave."""
    num_on_time = num_due = 0
    for each in measured:
        num_due += max(each.planned.num_output_tokens if each.error else 0, len(each.token_at_s))
        num_on_time += sum(at_s - each.arrived_at_s <= slo.due_s(index) for index, at_s in enumerate(each.token_at_s))
    return num_on_time / num_due if num_due else 0.0


def percentiles(values: Sequence[float]) -> Percentiles | None:
    if not values:
        return None
    ordered = sorted(values)
    p50, p90, p99 = (ordered[math.ceil(len(ordered) * percent / 100) - 1] for percent in (50, 90, 99))
    return Percentiles(p50, p90, p99, sum(ordered) / len(ordered))
