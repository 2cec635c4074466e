"""What a gateway measures: requests by model and by tenant, and how they were answered."""

from collections.abc import Callable, Set
from typing import Final, get_args

from gateway.tenants.tenant import BUS, LOCAL
from shared.errors import ErrorCode
from shared.ids import ModelName
from shared.messages import FinishReason, RequestFinished
from shared.telemetry import LONG_S, SHORT_S, Label, Registry

_ENDED_WELL: Final[Set[FinishReason]] = {"stop", "length", "tool_calls"}
_WITHOUT_KEY: Final = frozenset({LOCAL.id, BUS.id})


class GatewayMetrics:
    """Models come from the catalogue: whatever else a client names is refused before it counts here. Tenants are API
    keys."""

    def __init__(self, registry: Registry) -> None:
        self._model = Label()
        self._responses = registry.counter("kottos_http_responses_total", "HTTP answers.", ["route", "status"])
        self._requests = registry.counter("kottos_requests_total", "Sequences that ended.", ["model", "finish_reason"])
        self._good_requests = registry.counter(
            "kottos_good_requests_total", "Those of them that ended well, every token in time: their rate is goodput.",
            ["model"],
        )  # fmt: skip
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
        self._request_token_s = registry.histogram(
            "kottos_request_token_seconds", "From token to token, on average of a sequence that ended well.", ["model"],
            SHORT_S,
        )  # fmt: skip
        self._prompt_tokens = registry.counter("kottos_prompt_tokens_total", "Tokens of prompts.", ["model"])
        self._cached_tokens = registry.counter(
            "kottos_cached_prompt_tokens_total", "Those of them whose KV was there.", ["model"]
        )
        self._output_tokens = registry.counter("kottos_output_tokens_total", "Tokens for clients.", ["model"])
        self._tenants = TenantMetrics(registry)

    def forget(self, model: ModelName) -> None:
        """It is served no more: its rows go; what still runs makes them anew."""
        if not self._model.forget(model):
            return
        for reason in get_args(FinishReason):
            self._requests.remove(model, reason)
        counters = (self._good_requests, self._prompt_tokens, self._cached_tokens, self._output_tokens)
        for rows in (self._request_s, self._first_token_s, self._token_gap_s, self._request_token_s, *counters):
            rows.remove(model)

    def keep_tenants(self, tenants: Set[str]) -> None:
        """Others have no key any more."""
        self._tenants.keep(tenants | _WITHOUT_KEY)

    def answered(self, route: str, status: str) -> None:
        self._responses.labels(route, status).inc()

    def refused(self, tenant: str, code: ErrorCode) -> None:
        self._tenants.refused(tenant, code)

    def finished(self, finished: RequestFinished) -> None:
        model = self._model(finished.model)
        self._requests.labels(model, finished.finish_reason).inc()
        self._request_s.labels(model).observe(finished.total_s)
        self._prompt_tokens.labels(model).inc(finished.num_prompt_tokens)
        self._cached_tokens.labels(model).inc(finished.num_cached_tokens)
        self._output_tokens.labels(model).inc(finished.num_output_tokens)
        self._tenants.finished(finished)
        if finished.finish_reason in _ENDED_WELL:
            self._good_requests.labels(model).inc(finished.num_on_time_tokens == finished.num_due_tokens)
            if finished.ttft_s is not None and finished.num_output_tokens > 1:
                decode_s = finished.total_s - finished.ttft_s
                self._request_token_s.labels(model).observe(decode_s / (finished.num_output_tokens - 1))

    def token_times(self, model: ModelName, arrived_at_s: float) -> "TokenTimes":
        label = self._model(model)
        first_s, gap_s = self._first_token_s.labels(label), self._token_gap_s.labels(label)
        return TokenTimes(first_s.observe, gap_s.observe, arrived_at_s)


class TenantMetrics:
    def __init__(self, registry: Registry) -> None:
        self._tenant = Label()
        self._requests = registry.counter(
            "kottos_tenant_requests_total", "Sequences of an API key that ended, by the key's id.", ["tenant"]
        )
        self._prompt_tokens = registry.counter("kottos_tenant_prompt_tokens_total", "Tokens of prompts.", ["tenant"])
        self._output_tokens = registry.counter("kottos_tenant_output_tokens_total", "Tokens for clients.", ["tenant"])
        self._refusals = registry.counter(
            "kottos_tenant_refusals_total", "Calls that were refused before they got to a router.", ["tenant", "code"]
        )

    def finished(self, finished: RequestFinished) -> None:
        tenant = self._tenant(finished.tenant)
        self._requests.labels(tenant).inc()
        self._prompt_tokens.labels(tenant).inc(finished.num_prompt_tokens)
        self._output_tokens.labels(tenant).inc(finished.num_output_tokens)

    def refused(self, tenant: str, code: ErrorCode) -> None:
        self._refusals.labels(self._tenant(tenant), code.value).inc()

    def keep(self, tenants: Set[str]) -> None:
        for tenant in self._tenant.known - tenants:
            self._tenant.forget(tenant)
            for rows in (self._requests, self._prompt_tokens, self._output_tokens):
                rows.remove(tenant)
            for code in ErrorCode:
                self._refusals.remove(tenant, code.value)


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
