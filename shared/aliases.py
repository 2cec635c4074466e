"""What is measured, under the names that dashboards and autoscalers of other servers ask for.

One table. An alias is a view of a family of ours, made at the scrape: nothing is counted twice. A family has its
aliases where it is measured itself, so that sums over all services are right.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from prometheus_client.metrics_core import Metric

_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_NO_VALUES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType({})


class Alias(NamedTuple):
    name: str  # as a scrape has it, as is
    source: str  # ours
    labels: Mapping[str, str] = _NONE  # ours -> theirs; others keep their names
    values: Mapping[str, Mapping[str, str]] = _NO_VALUES  # by label: ours -> theirs
    only: Mapping[str, str] = _NONE  # rows with these labels, which the view has not
    always: Mapping[str, str] = _NONE  # labels of each row


_VLLM_LABELS: Final = {"model": "model_name", "finish_reason": "finished_reason"}
_VLLM_VALUES: Final = {"finish_reason": {"tool_calls": "stop", "cancelled": "abort"}}
_GEN_AI_LABELS: Final = {"model": "gen_ai_request_model"}
# A request is a chat or a completion, and this is what the conventions call either.
_GEN_AI_ALWAYS: Final = {"gen_ai_provider_name": "kottos", "gen_ai_operation_name": "generate_content"}


def _vllm(name: str, source: str, **only: str) -> Alias:
    return Alias(f"vllm:{name}", source, _VLLM_LABELS, _VLLM_VALUES, only)


def _gen_ai(name: str, source: str) -> Alias:
    return Alias(f"gen_ai_server_{name}", source, _GEN_AI_LABELS, always=_GEN_AI_ALWAYS)


# https://docs.vllm.ai/en/stable/usage/metrics/; the older of two names is there where dashboards still have it.
VLLM: Final = (
    _vllm("num_requests_running", "kottos_sequences", state="running"),
    _vllm("num_requests_waiting", "kottos_sequences", state="waiting"),
    _vllm("num_requests_waiting", "kottos_router_held_requests"),
    _vllm("kv_cache_usage_perc", "kottos_model_kv_ratio"),
    _vllm("gpu_cache_usage_perc", "kottos_model_kv_ratio"),
    _vllm("num_preemptions_total", "kottos_preemptions_total"),
    _vllm("prefix_cache_queries_total", "kottos_prompt_tokens_total"),
    _vllm("prefix_cache_hits_total", "kottos_cached_prompt_tokens_total"),
    _vllm("prompt_tokens_total", "kottos_prompt_tokens_total"),
    _vllm("generation_tokens_total", "kottos_output_tokens_total"),
    _vllm("request_success_total", "kottos_requests_total"),
    _vllm("request_queue_time_seconds", "kottos_queue_seconds"),
    _vllm("time_to_first_token_seconds", "kottos_time_to_first_token_seconds"),
    _vllm("inter_token_latency_seconds", "kottos_inter_token_seconds"),
    _vllm("time_per_output_token_seconds", "kottos_inter_token_seconds"),
    _vllm("request_time_per_output_token_seconds", "kottos_request_token_seconds"),
    _vllm("e2e_request_latency_seconds", "kottos_request_seconds"),
)
# https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/, spelled as Prometheus does; with our buckets.
GEN_AI: Final = (
    _gen_ai("request_duration_seconds", "kottos_request_seconds"),
    _gen_ai("time_to_first_token_seconds", "kottos_time_to_first_token_seconds"),
    _gen_ai("time_per_output_token_seconds", "kottos_request_token_seconds"),
)


def aliases(*, vllm: bool) -> tuple[Alias, ...]:
    return (*VLLM, *GEN_AI) if vllm else GEN_AI


def with_aliases(families: Iterable[Metric], table: Sequence[Alias]) -> Iterator[Metric]:
    """Each family, then what else it is called."""
    for family in families:
        yield family
        for alias in table:
            if _bare(alias.source) == family.name:
                yield _view(family, alias)


def _view(family: Metric, alias: Alias) -> Metric:
    view = Metric(_bare(alias.name), family.documentation, family.type)
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}  # rows whose labels become equal are one
    for sample in family.samples:
        if any(sample.labels.get(label) != value for label, value in alias.only.items()):
            continue
        labels = {
            alias.labels.get(label, label): alias.values.get(label, _NONE).get(value, value)
            for label, value in sample.labels.items()
            if label not in alias.only
        }
        row = sample.name.removeprefix(family.name), tuple({**labels, **alias.always}.items())
        sums[row] = sums.get(row, 0.0) + sample.value
    for (suffix, pairs), value in sums.items():
        view.add_sample(view.name + suffix, dict(pairs), value)
    return view


def _bare(name: str) -> str:
    """As prometheus_client names families: a counter's without _total."""
    return name.removesuffix("_total")
