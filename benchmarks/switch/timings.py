"""Milliseconds by model and by what was timed."""

import statistics
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Timings:
    values_ms: defaultdict[str, defaultdict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, model: str, what: str, ms: float) -> None:
        self.values_ms[model][what].append(ms)

    def median(self, model: str, what: str) -> float:
        return statistics.median(self.values_ms[model][what])

    def number(self) -> int:
        """The least number of repeats of anything."""
        return min(len(values) for by_what in self.values_ms.values() for values in by_what.values())
