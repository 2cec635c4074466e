"""How much of something may be taken per minute. Pure: instants come in as arguments."""

from typing import Final

_MINUTE_S: Final = 60.0
_ROUNDING: Final = 1e-6  # of the level, which is a float


class Bucket:
    """Full at first, and refilled evenly by its size a minute: all of it at once, or a steady stream of as much.

    In t seconds at most size * (1 + t / 60) is taken, less what is given back. The level may fall below zero by `take`,
    which asks nobody: that is paid back before anything else.
    """

    def __init__(self, size: int, now_s: float) -> None:
        self.size = size
        self._per_s = size / _MINUTE_S
        self._level = float(size)
        self._level_at_s = now_s

    def level(self, now_s: float) -> float:
        return min(self.size, self._level + max(0.0, now_s - self._level_at_s) * self._per_s)

    def wait_s(self, amount: float, now_s: float) -> float:
        """Until so much is there, or the bucket is full, where it never holds so much; 0: now."""
        missing = min(amount, self.size) - self.level(now_s)
        return missing / self._per_s if missing > _ROUNDING else 0.0

    def full_in_s(self, now_s: float) -> float:
        return (self.size - self.level(now_s)) / self._per_s

    def take(self, amount: float, now_s: float) -> None:
        """Or give it back, where it is negative."""
        self._level = min(self.size, self.level(now_s) - amount)
        self._level_at_s = max(self._level_at_s, now_s)
