"""Reads what a service says of itself, as a scraper would."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def samples(text: bytes) -> dict[str, float]:
    """By name and label values, in the order of their labels' names: name{a,b}."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found[f"{sample.name}{{{','.join(sample.labels.values())}}}"] = sample.value
    return found


def scrape(address: str) -> dict[str, float]:
    """address: host:port"""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return samples(answer.read())
