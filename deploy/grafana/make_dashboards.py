"""Makes dashboards/*.json: python -m deploy.grafana.make_dashboards

What each panel asks is here in a line; the JSON around it is Grafana's. `instance` is a worker's name where Prometheus
finds it as deploy/prometheus/prometheus.yml says.
"""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).with_name("dashboards")
_SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
_WIDTH, _HEIGHT, _NUM_COLUMNS = 8, 8, 3


class Query(NamedTuple):
    expression: str
    legend: str


class Panel(NamedTuple):
    title: str
    unit: str  # Grafana's
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    is_stacked: bool = False
    says: str = ""


class Dashboard(NamedTuple):
    uid: str
    title: str
    panels: tuple[Panel, ...]
    variable: tuple[str, str] | None = None  # its name, and a metric whose rows have that label


def _rate(metric: str, by: str, only: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{only}[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str, only: str = "") -> str:
    rows = f"sum by ({by + ', ' if by else ''}le) (rate({metric}_bucket{only}[$__rate_interval]))"
    return f"histogram_quantile({share}, {rows})"


def _quantiles(metric: str, only: str = "") -> tuple[Query, ...]:
    return tuple(Query(_quantile(share, metric, "", only), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99))


def _mean(metric: str, by: str, only: str = "") -> str:
    return f"{_rate(f'{metric}_sum', by, only)} / {_rate(f'{metric}_count', by, only)}"


OVERVIEW: Final = Dashboard(
    "kottos-overview",
    "Kottos: overview",
    (
        Panel("Workers", "none", (Query("max(kottos_router_workers)", "workers"),), "stat"),
        Panel(
            "Tokens", "none", (Query("sum(rate(kottos_output_tokens_total[$__rate_interval]))", "a second"),), "stat"
        ),
        Panel(
            "Attainment",
            "percentunit",
            (Query("sum(rate(kottos_on_time_tokens_total[5m])) / sum(rate(kottos_due_tokens_total[5m]))", "in time"),),
            "stat",
            says="Tokens that were written in time, of those that were due.",
        ),
        Panel(
            "Output tokens",
            "none",
            (Query(_rate("kottos_output_tokens_total", "model"), "{{model}}"),),
            is_stacked=True,
        ),
        Panel("Attainment of models", "percentunit", (Query("kottos:attainment:ratio_rate5m", "{{model}}"),)),
        Panel(
            "Goodput",
            "reqps",
            (Query("kottos:goodput:rate5m", "{{model}}"),),
            is_stacked=True,
            says="Sequences that ended well with every token in time.",
        ),
        Panel(
            "Time to first token, p95",
            "s",
            (Query(_quantile(0.95, "kottos_time_to_first_token_seconds", "model"), "{{model}}"),),
        ),
        Panel(
            "Time between tokens, p95",
            "s",
            (Query(_quantile(0.95, "kottos_inter_token_seconds", "model"), "{{model}}"),),
        ),
        Panel(
            "Predicted time to first token",
            "s",
            (Query("max by (model) (kottos_predicted_ttft_seconds)", "{{model}}"),),
        ),
        Panel(
            "Sequences",
            "none",
            (
                Query('sum(kottos_sequences{state="running"})', "running"),
                Query('sum(kottos_sequences{state="waiting"})', "waiting on a worker"),
                Query("sum(kottos_router_held_requests)", "held for a worker"),
            ),
            is_stacked=True,
        ),
        Panel(
            "Ends",
            "reqps",
            (Query(_rate("kottos_requests_total", "finish_reason"), "{{finish_reason}}"),),
            is_stacked=True,
        ),
        Panel(
            "Refusals", "reqps", (Query(_rate("kottos_tenant_refusals_total", "code"), "{{code}}"),), is_stacked=True
        ),
        Panel("Switches", "ops", (Query(_rate("kottos_switches_total", "kind"), "{{kind}}"),), is_stacked=True),
        Panel("Wait for a switch, mean", "s", (Query(_mean("kottos_switch_seconds", "kind"), "{{kind}}"),)),
        Panel(
            "Tenants by output tokens",
            "none",
            (Query(f"topk(10, {_rate('kottos_tenant_output_tokens_total', 'tenant')})", "{{tenant}}"),),
        ),
        Panel(
            "Connections and unread tokens",
            "none",
            (
                Query("sum(kottos_http_connections)", "connections"),
                Query("sum(kottos_unread_tokens)", "unread tokens"),
                Query("sum(kottos_text_jobs_waiting)", "prompts to tokenize"),
            ),
        ),
        Panel(
            "Message bus",
            "none",
            (
                Query("min by (instance) (kottos_bus_connected)", "{{instance}} connected"),
                Query("sum by (instance) (increase(kottos_bus_lost_messages_total[5m]))", "{{instance}} lost messages"),
            ),
        ),
        Panel(
            "Memory of processes",
            "percentunit",
            (Query("process_resident_memory_bytes / kottos_memory_limit_bytes", "{{service}} {{instance}}"),),
            says="Resident, of what each may have.",
        ),
    ),
)

_MODEL: Final = '{model="$model"}'
MODEL: Final = Dashboard(
    "kottos-model",
    "Kottos: a model",
    (
        Panel("Attainment", "percentunit", (Query(f"kottos:attainment:ratio_rate5m{_MODEL}", "in time"),)),
        Panel("Time to first token", "s", _quantiles("kottos_time_to_first_token_seconds", _MODEL)),
        Panel("Time between tokens", "s", _quantiles("kottos_inter_token_seconds", _MODEL)),
        Panel("Requests", "s", _quantiles("kottos_request_seconds", _MODEL), says="From arrival to the last token."),
        Panel("Queue", "s", _quantiles("kottos_queue_seconds", _MODEL), says="From arrival to the first step."),
        Panel(
            "Wait for a turn",
            "s",
            _quantiles("kottos_model_wait_seconds", _MODEL),
            says="With work, from its last step to its next one.",
        ),
        Panel(
            "Tokens",
            "none",
            (
                Query(f"sum(rate(kottos_prompt_tokens_total{_MODEL}[$__rate_interval]))", "prompts"),
                Query(f"sum(rate(kottos_cached_prompt_tokens_total{_MODEL}[$__rate_interval]))", "of these cached"),
                Query(f"sum(rate(kottos_output_tokens_total{_MODEL}[$__rate_interval]))", "output"),
            ),
        ),
        Panel(
            "Sequences", "none", (Query(f"sum by (state) (kottos_sequences{_MODEL})", "{{state}}"),), is_stacked=True
        ),
        Panel("Ends", "reqps", (Query(_rate("kottos_requests_total", "finish_reason", _MODEL), "{{finish_reason}}"),)),
        Panel("Step, mean", "s", (Query(_mean("kottos_step_seconds", "instance", _MODEL), "{{instance}}"),)),
        Panel(
            "Weights",
            "bytes",
            (
                Query(f"sum by (instance) (kottos_model_resident_bytes{_MODEL})", "{{instance}} on the device"),
                Query(f"sum by (instance) (kottos_model_cached_bytes{_MODEL})", "{{instance}} in host memory"),
            ),
        ),
        Panel("Preemptions", "ops", (Query(_rate("kottos_preemptions_total", "instance", _MODEL), "{{instance}}"),)),
    ),
    ("model", "kottos_requests_total"),
)

_WORKER: Final = '{instance="$instance"}'
WORKER: Final = Dashboard(
    "kottos-worker",
    "Kottos: a worker",
    (
        Panel(
            "Tokens computed",
            "none",
            (Query(_rate("kottos_step_tokens_total", "model, phase", _WORKER), "{{model}} {{phase}}"),),
            is_stacked=True,
        ),
        Panel(
            "Time in steps",
            "percentunit",
            (Query(_rate("kottos_step_seconds_sum", "model", _WORKER), "{{model}}"),),
            is_stacked=True,
            says="The share of the device's time that each model has.",
        ),
        Panel("Steps", "s", _quantiles("kottos_step_seconds", _WORKER)),
        Panel(
            "Switches", "ops", (Query(_rate("kottos_switches_total", "kind", _WORKER), "{{kind}}"),), is_stacked=True
        ),
        Panel(
            "Wait for a switch",
            "s",
            (Query(_quantile(0.95, "kottos_switch_seconds", "kind", _WORKER), "{{kind}} p95"),),
        ),
        Panel("Prefetches", "ops", (Query(_rate("kottos_prefetches_total", "state", _WORKER), "{{state}}"),)),
        Panel(
            "Models on the device",
            "bytes",
            (Query(f"kottos_model_resident_bytes{_WORKER}", "{{model}}"),),
            is_stacked=True,
        ),
        Panel("Weight region", "bytes", (Query(f"kottos_weight_region_bytes{_WORKER}", "{{state}}"),), is_stacked=True),
        Panel(
            "Fragmentation",
            "percentunit",
            (
                Query(f"kottos_weight_region_fragmentation_ratio{_WORKER}", "weights"),
                Query(f"kottos_kv_fragmentation_ratio{_WORKER}", "KV, {{side}}"),
            ),
        ),
        Panel("KV memory", "bytes", (Query(f"kottos_kv_bytes{_WORKER}", "{{side}} {{state}}"),), is_stacked=True),
        Panel(
            "KV slabs",
            "none",
            (Query(f"kottos_kv_slabs{_WORKER}", "{{side}} of {{block_bytes}} bytes"),),
            is_stacked=True,
        ),
        Panel("KV copied", "Bps", (Query(_rate("kottos_kv_copied_bytes_total", "to", _WORKER), "to the {{to}}"),)),
        Panel(
            "Prefix cache",
            "percentunit",
            (
                Query(
                    f"{_rate('kottos_prefix_cached_tokens_total', 'instance', _WORKER)} / "
                    f"{_rate('kottos_prefix_queried_tokens_total', 'instance', _WORKER)}",
                    "of prompts' tokens",
                ),
            ),
        ),
        Panel("Host model cache", "bytes", (Query(f"kottos_host_cache_bytes{_WORKER}", "{{state}}"),), is_stacked=True),
        Panel(
            "Host model cache, what comes and goes",
            "ops",
            (
                Query(_rate("kottos_host_cache_reads_total", "instance", _WORKER), "reads"),
                Query(_rate("kottos_host_cache_evictions_total", "instance", _WORKER), "evictions"),
                Query(_rate("kottos_host_cache_misses_total", "instance", _WORKER), "misses of a turn"),
            ),
        ),
        Panel(
            "Token loop",
            "percentunit",
            (Query(_rate("kottos_loop_cpu_seconds_total", "instance", _WORKER), "of a core"),),
        ),
        Panel("Memory", "bytes", (Query(f"process_resident_memory_bytes{_WORKER}", "resident"),)),
        Panel(
            "Sequences", "none", (Query(f"sum by (state) (kottos_sequences{_WORKER})", "{{state}}"),), is_stacked=True
        ),
    ),
    ("instance", "kottos_kv_bytes"),
)

DASHBOARDS: Final = (OVERVIEW, MODEL, WORKER)


def rendered(dashboard: Dashboard) -> str:
    document = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["kottos"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["kottos"], "title": "Kottos", "keepTime": True, "includeVars": True}],
        "templating": {"list": [_variable(*dashboard.variable)] if dashboard.variable else []},
        "panels": [_panel(number, panel) for number, panel in enumerate(dashboard.panels)],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _NUM_COLUMNS)
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.unit == "percentunit":
        defaults["max"] = 1
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.is_stacked else "none"}
        defaults["custom"] = {"fillOpacity": 30 if panel.is_stacked else 5, "stacking": stacking, "showPoints": "never"}
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + k), "expr": query.expression, "legendFormat": query.legend, "datasource": _SOURCE}
            for k, query in enumerate(panel.queries)
        ],
    }


def _variable(name: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {name})"
    return {"name": name, "type": "query", "datasource": _SOURCE, "query": query, "definition": query, "refresh": 2}


if __name__ == "__main__":
    for each in DASHBOARDS:
        (FOLDER / f"{each.uid}.json").write_text(rendered(each), encoding="utf-8")
