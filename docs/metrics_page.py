"""Makes docs/metrics.md from what the services register: python -m docs.metrics_page"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import gateway.metrics
import gpu_worker.metrics
import router.metrics
from shared.telemetry import Registry

PAGE: Final = Path(__file__).with_name("metrics.md")
_NOBODY: Final = cast(Any, None)  # state is read at a scrape only, and nobody scrapes here


def _gateway(registry: Registry) -> None:
    gateway.metrics.GatewayMetrics(registry)
    gateway.metrics.watch(registry, _NOBODY, _NOBODY, _NOBODY, _NOBODY, _NOBODY)


def _router(registry: Registry) -> None:
    router.metrics.RouterMetrics(registry)
    router.metrics.watch(registry, _NOBODY, _NOBODY, _NOBODY, _NOBODY)


def _worker(registry: Registry) -> None:
    gpu_worker.metrics.EngineMetrics(registry)
    gpu_worker.metrics.watch(registry, _NOBODY)


SERVICES: Final[dict[str, Callable[[Registry], None]]] = {"Gateway": _gateway, "Router": _router, "Worker": _worker}


def page() -> str:
    lines = [
        "# Metrics",
        "",
        "Made by `docs/metrics_page.py` from what the services register. A gateway's are at `/metrics` of its port;",
        "`/metrics/targets` lists where the others are. A histogram has `_bucket`, `_sum` and `_count`; rates of these",
        "sums and of counters answer most questions: `rate(kottos_loop_cpu_seconds_total[1m])` over",
        "`sum(rate(kottos_step_seconds_sum[1m]))` is the token loop's share of a step.",
    ]
    for service, register in SERVICES.items():
        registry = Registry()
        register(registry)
        lines += ["", f"## {service}", "", "| metric | kind | labels | says |", "|---|---|---|---|"]
        for metric in registry.described:
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.text} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
