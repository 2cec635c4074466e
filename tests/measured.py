"""What a Prometheus server finds of a stack: rows by their names in a scrape, and the labels that they have there."""

import re

import yaml

from docs.metrics_page import SERVICES, registry_of
from tests.promql import Named, names_of

# Prometheus adds the first two; the others come from /metrics/targets.
_OF_TARGETS = {"job", "instance", "service", "name"}
_OF_PROCESSES = {"process_resident_memory_bytes"}
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


def labels_of_rows() -> dict[str, set[str]]:
    found = {name: set[str]() for name in _OF_PROCESSES} | {"up": set[str]()}
    for register in SERVICES.values():
        for metric in registry_of(register).described:
            for suffix in _SUFFIXES.get(metric.kind, ("",)):
                found.setdefault(metric.name + suffix, set()).update(metric.labels)
    return found


def recorded(rules: str) -> dict[str, set[str]]:
    """The rows that rules record, with the labels that they group by."""
    found = {}
    for group in yaml.safe_load(rules)["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                found[rule["record"]] = names_of(rule["expr"]).grouped - {"le"}
    return found


def unknown_in(expression: str, rows: dict[str, set[str]]) -> list[str]:
    """Metrics that nobody has, and labels that they don't."""
    names: Named = names_of(re.sub(r"\$__\w+", "1m", expression))
    wrong = sorted(names.metrics - rows.keys())
    here = names.metrics & rows.keys()
    has_buckets = any(name.endswith("_bucket") for name in here)
    allowed = _OF_TARGETS | ({"le"} if has_buckets else set()) | set().union(*(rows[name] for name in here))
    wrong += sorted(names.grouped - allowed)
    for name in sorted(here):
        wrong += [f"{name}{{{label}}}" for label in sorted(names.matched[name] - rows[name] - _OF_TARGETS)]
    return wrong
