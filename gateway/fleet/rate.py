"""How many per second, lately. Pure."""

from collections import deque
from typing import Final

WINDOW_S: Final = 2.0


class Rate:
    """Over the last WINDOW_S, or since it began, if that is less."""

    def __init__(self, began_at_s: float) -> None:
        self._began_at_s = began_at_s
        self._counts: deque[tuple[float, int]] = deque()  # when, how many; of the window only

    def add(self, num: int, now_s: float) -> None:
        self._counts.append((now_s, num))
        self._drop_old(now_s)

    def per_s(self, now_s: float) -> float:
        self._drop_old(now_s)
        window_s = min(WINDOW_S, now_s - self._began_at_s)
        return sum(num for _, num in self._counts) / window_s if window_s > 0 else 0.0

    def _drop_old(self, now_s: float) -> None:
        while self._counts and self._counts[0][0] <= now_s - WINDOW_S:
            self._counts.popleft()
