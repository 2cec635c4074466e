"""Sizes by name, sampled as requests go by, and how they grow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Final

import msgspec

FLAT: Final = 0.01  # a size that grows by less of itself in 10,000 requests is flat


@dataclass
class Samples:
    """Kept encoded, one object that the garbage collector does not track for each, so as not to count themselves."""

    _encoded: list[bytes] = field(default_factory=list)

    def add(self, num_requests: int, sizes: Mapping[str, float]) -> None:
        self._encoded.append(msgspec.json.encode({"requests": num_requests, **sizes}))

    def columns(self) -> dict[str, list[float]]:
        """By name; `requests` is the first. A size that a sample lacks is 0 there."""
        rows = [msgspec.json.decode(encoded, type=dict[str, float]) for encoded in self._encoded]
        names = {name: None for row in rows for name in row}
        return {name: [row.get(name, 0) for row in rows] for name in names}


@dataclass(frozen=True, slots=True)
class Growth:
    first: float
    last: float
    middle: float  # mean of the last half
    per_1000: float  # requests: the slope of the last half
    error: float  # of the slope: two standard errors

    @property
    def is_flat(self) -> bool | None:
        """None: the size goes up and down too much to tell."""
        limit = FLAT * self.middle / 10
        if self.per_1000 + self.error <= limit:
            return True
        return False if self.per_1000 - self.error > limit else None


def growth(requests: Sequence[float], sizes: Sequence[float]) -> Growth:
    """Of at least six samples. Its slope is that of the least squares line through the last half of them."""
    xs, ys = requests[len(requests) // 2 :], sizes[len(sizes) // 2 :]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    residuals = sum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    error = 2 * sqrt(residuals / (len(xs) - 2) / spread)
    return Growth(sizes[0], sizes[-1], y_mean, slope * 1000, error * 1000)
