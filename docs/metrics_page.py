"""Makes docs/metrics.md from what the services register: python -m docs.metrics_page"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import gateway.metrics
import gateway.state_metrics
import gpu_worker.metrics
import gpu_worker.state_metrics
import router.metrics
from shared.aliases import aliases
from shared.telemetry import Registry

PAGE: Final = Path(__file__).with_name("metrics.md")


class _Nobody:
    """State is read at a scrape only, and nobody scrapes here."""

    def __getattr__(self, name: str) -> "_Nobody":
        return self


_NOBODY: Final = cast(Any, _Nobody())


def _gateway(registry: Registry) -> None:
    gateway.metrics.GatewayMetrics(registry)
    gateway.state_metrics.watch(registry, _NOBODY)


def _router(registry: Registry) -> None:
    router.metrics.RouterMetrics(registry)
    router.metrics.watch(registry, _NOBODY, _NOBODY, _NOBODY, _NOBODY)


def _worker(registry: Registry) -> None:
    gpu_worker.metrics.EngineMetrics(registry)
    gpu_worker.state_metrics.watch(registry, _NOBODY)


SERVICES: Final[dict[str, Callable[[Registry], None]]] = {"Gateway": _gateway, "Router": _router, "Worker": _worker}


def registry_of(register: Callable[[Registry], None]) -> Registry:
    registry = Registry(aliases(vllm=True))
    register(registry)
    registry.describe_process("")
    return registry


def page() -> str:
    registries = {service: registry_of(register) for service, register in SERVICES.items()}
    lines = [
        "# Metrics",
        "",
        "Made by `docs/metrics_page.py` from what the services register. A gateway's are at `/metrics` of its port;",
        "`/metrics/targets` lists where the others are. A histogram has `_bucket`, `_sum` and `_count`; rates of these",
        "sums and of counters answer most questions: `rate(kottos_loop_cpu_seconds_total[1m])` over",
        "`sum(rate(kottos_step_seconds_sum[1m]))` is the token loop's share of a step. Every process has",
        "prometheus_client's `process_*`, `python_info` and `python_gc_*`, too.",
        "",
        "Goodput of a model is `rate(kottos_good_requests_total[5m])`, its attainment the rate of",
        "`kottos_on_time_tokens_total` over that of `kottos_due_tokens_total`. Tenants are API keys by their ids,",
        "`local` where none is needed, and `bus`. The first 256 tenants and models have rows, the rest is `other`.",
    ]
    for service, registry in registries.items():
        lines += ["", f"## {service}", "", "| metric | kind | labels | says |", "|---|---|---|---|"]
        for metric in registry.described:
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.text} |")
    lines += [
        "",
        "## Names of other servers",
        "",
        "`shared/aliases.py` has the same numbers under the names that dashboards and autoscalers ask for: vLLM's with",
        "`model_name`, unless `telemetry.vllm_metrics` is false, and OpenTelemetry's of GenAI servers with",
        "`gen_ai_request_model`. Sum them over all services.",
        "",
        "| metric | is | of |",
        "|---|---|---|",
    ]
    for alias in aliases(vllm=True):
        [service] = [name for name, found in registries.items() if any(alias.source == m.name for m in found.described)]
        only = "".join(f'{{{label}="{value}"}}' for label, value in alias.only.items())
        lines.append(f"| `{alias.name}` | `{alias.source}{only}` | {service.lower()} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
