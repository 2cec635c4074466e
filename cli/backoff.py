"""How long to wait before a process that died is started again."""

from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Doubles from `first_s` to `most_s`, and starts anew after a life of `settled_s`."""

    first_s: float = 0.2
    most_s: float = 10.0
    settled_s: float = 30.0
    _next_s: float = field(default=0.0, init=False)

    def delay_s(self, lived_s: float) -> float:
        """Seconds to wait after a life of `lived_s`."""
        if self._next_s == 0.0 or lived_s >= self.settled_s:
            self._next_s = self.first_s
        delay_s = self._next_s
        self._next_s = min(2 * delay_s, self.most_s)
        return delay_s
