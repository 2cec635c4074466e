"""How fast a line of requests moves, by when the last ones left it."""

from collections import deque
from typing import Final

MIN_MOVES: Final = 8  # fewer say nothing
_MAX_MOVES: Final = 32


class Pace:
    """Of a line while somebody waits in it. What makes it slow or fast is all in it: the length of prompts and outputs,
    other tenants' turns, copies of weights. A line that stands still gets slower with every second."""

    def __init__(self) -> None:
        self._moved_at_s: deque[float] = deque(maxlen=_MAX_MOVES)

    def moved(self, now_s: float) -> None:
        """Somebody left it: with a first token, or because nobody waits for one any more."""
        self._moved_at_s.append(now_s)

    def wait_s(self, num_moves: int, now_s: float) -> float | None:
        """Until so many more have left; None: not known yet."""
        if len(self._moved_at_s) < MIN_MOVES:
            return None
        passed_s = now_s - self._moved_at_s[0]
        return num_moves * passed_s / (len(self._moved_at_s) - 1)
