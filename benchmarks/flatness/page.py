"""Samples as a table and as curves."""

from typing import Final

from benchmarks.flatness.containers import TABLE_PREFIX
from benchmarks.flatness.samples import FLAT, Growth, Samples, growth
from benchmarks.markdown import table
from benchmarks.plot import Line, Tick, chart

_BYTES: Final = (" RSS", " PSS")
_MAX_TABLES: Final = 12  # of containers, those with most in them
_MIN_ELEMENTS: Final = 50


def sizes_table(samples: Samples) -> str:
    columns = samples.columns()
    requests = columns.pop("requests")
    grown = {name: growth(requests, sizes) for name, sizes in columns.items()}
    rows = [_row(name, grown[name]) for name in _shown(grown)]
    titles = ["size", "first sample", "last sample", "per 1,000 requests", "±", f"flat (< {FLAT:.0%} per 10,000)"]
    note = (
        "Per 1,000 requests: slope of the least squares line through the last half, ± two standard errors. "
        "PSS has no verdict: it moves with every other process that shares the pages of a library."
    )
    return f"{table(titles, rows)}\n\n{note}"


def curves(samples: Samples, title: str) -> str:
    """RSS of every process over requests."""
    columns = samples.columns()
    requests = columns["requests"]
    lines = [
        Line(name.removesuffix(" RSS"), [(x, y / 2**20) for x, y in zip(requests, sizes, strict=True)])
        for name, sizes in columns.items()
        if name.endswith(" RSS")
    ]
    highest = max(y for line in lines for _, y in line.points)
    step = 10 ** len(str(int(highest))) / 10
    ticks = [Tick(step * i, f"{step * i:g} MiB") for i in range(int(highest // step) + 2)]
    return chart(f"{title}: RSS by process", lines, ticks, f"{requests[0]:,.0f} to {requests[-1]:,.0f} requests")


def _shown(grown: dict[str, Growth]) -> list[str]:
    """All sizes, but of the containers only those with much in them, and those that grow."""
    containers = sorted((name for name in grown if name.startswith(TABLE_PREFIX)), key=lambda n: -grown[n].middle)
    large = [name for name in containers if grown[name].middle >= _MIN_ELEMENTS][:_MAX_TABLES]
    growing = [name for name in containers if grown[name].is_flat is False and name not in large]
    return [*(name for name in grown if not name.startswith(TABLE_PREFIX)), *large, *growing]


def _row(name: str, each: Growth) -> list[str]:
    verdict = {True: "yes", False: "NO", None: "too uneven"}[each.is_flat]
    if name.endswith(" PSS"):
        verdict = "(see RSS)"
    if name.endswith(_BYTES):
        sizes = [f"{value / 2**20:,.1f} MiB" for value in (each.first, each.last)]
        return [name, *sizes, *(f"{value / 2**10:,.1f} KiB" for value in (each.per_1000, each.error)), verdict]
    sizes = [f"{value:,.0f}" for value in (each.first, each.last)]
    return [name, *sizes, *(f"{value:,.2f}" for value in (each.per_1000, each.error)), verdict]
