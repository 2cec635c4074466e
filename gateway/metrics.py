"""What a gateway measures: requests by model, and how they were answered."""

from collections.abc import Callable
from typing import get_args

from gateway.attainment import Attainment, TokenCounts
from shared.bus import Bus
from shared.ids import ModelName
from shared.messages import FinishReason, RequestFinished
from shared.telemetry import LONG_S, SHORT_S, Label, Registry, Values


class GatewayMetrics:
    """Models come from the catalogue: whatever else a client names is refused before it counts here."""

    def __init__(self, registry: Registry) -> None:
        self._model = Label()
        self._responses = registry.counter("kottos_http_responses_total", "HTTP answers.", ["route", "status"])
        self._requests = registry.counter("kottos_requests_total", "Sequences that ended.", ["model", "finish_reason"])
        self._request_s = registry.histogram(
            "kottos_request_seconds", "From a request's arrival to its end.", ["model"], LONG_S
        )
        self._first_token_s = registry.histogram(
            "kottos_time_to_first_token_seconds", "From a request's arrival until its first token is written.",
            ["model"], LONG_S,
        )  # fmt: skip
        self._token_gap_s = registry.histogram(
            "kottos_inter_token_seconds", "Between a sequence's tokens as they were written; 0 within one event.",
            ["model"], SHORT_S,
        )  # fmt: skip
        self._prompt_tokens = registry.counter("kottos_prompt_tokens_total", "Tokens of prompts.", ["model"])
        self._cached_tokens = registry.counter(
            "kottos_cached_prompt_tokens_total", "Those of them whose KV was there.", ["model"]
        )
        self._output_tokens = registry.counter("kottos_output_tokens_total", "Tokens for clients.", ["model"])

    def forget(self, model: ModelName) -> None:
        """It is served no more: its rows go; what still runs makes them anew."""
        if not self._model.forget(model):
            return
        for reason in get_args(FinishReason):
            self._requests.remove(model, reason)
        counters = (self._prompt_tokens, self._cached_tokens, self._output_tokens)
        for rows in (self._request_s, self._first_token_s, self._token_gap_s, *counters):
            rows.remove(model)

    def answered(self, route: str, status: str) -> None:
        self._responses.labels(route, status).inc()

    def finished(self, finished: RequestFinished) -> None:
        model = self._model(finished.model)
        self._requests.labels(model, finished.finish_reason).inc()
        self._request_s.labels(model).observe(finished.total_s)
        self._prompt_tokens.labels(model).inc(finished.num_prompt_tokens)
        self._cached_tokens.labels(model).inc(finished.num_cached_tokens)
        self._output_tokens.labels(model).inc(finished.num_output_tokens)

    def token_times(self, model: ModelName, arrived_at_s: float) -> "TokenTimes":
        label = self._model(model)
        first_s, gap_s = self._first_token_s.labels(label), self._token_gap_s.labels(label)
        return TokenTimes(first_s.observe, gap_s.observe, arrived_at_s)


class TokenTimes:
    """Of one sequence: when its tokens were written."""

    def __init__(
        self, observe_first: Callable[[float], None], observe_gap: Callable[[float], None], arrived_at_s: float
    ) -> None:
        self._observe_first = observe_first
        self._observe_gap = observe_gap
        self._last_at_s = arrived_at_s
        self._num_tokens = 0

    def written(self, num_tokens: int, now_s: float) -> None:
        """All up to the first `num_tokens` are out now."""
        for _ in range(self._num_tokens, num_tokens):
            observe = self._observe_gap if self._num_tokens else self._observe_first
            observe(now_s - self._last_at_s)
            self._last_at_s = now_s
            self._num_tokens += 1


def watch(
    registry: Registry,
    bus: Bus,
    num_in_flight: Callable[[], int],
    num_submitting: Callable[[], int],
    num_waiting: Callable[[], int],
    attainment: Attainment,
) -> None:

    def of_models(number: Callable[[TokenCounts], int]) -> Values:
        label = Label()  # of those that are served now
        return [((label(model),), number(counts)) for model, counts in attainment]

    registry.count(
        "kottos_due_tokens_total", "Tokens that were due: written, or overdue when their request ended.", ["model"],
        lambda: of_models(lambda counts: counts.num_due),
    )  # fmt: skip
    registry.count(
        "kottos_on_time_tokens_total", "Those of them that were written in time.", ["model"],
        lambda: of_models(lambda counts: counts.num_on_time),
    )  # fmt: skip
    registry.gauge(
        "kottos_requests_in_flight", "Sequences from admission to their last byte.", [],
        lambda: [((), num_in_flight())],
    )  # fmt: skip
    registry.gauge("kottos_requests_submitting", "Those that no router took yet.", [], lambda: [((), num_submitting())])
    registry.gauge("kottos_requests_waiting", "Those without their first token.", [], lambda: [((), num_waiting())])
    registry.gauge("kottos_bus_connected", "Whether the message bus is.", [], lambda: [((), float(bus.connected))])
