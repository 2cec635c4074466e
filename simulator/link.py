"""The link between host and device: one transfer at a time, urgent ones first, then the oldest."""

from collections.abc import Callable
from math import inf

_EPSILON_S = 1e-9  # what rounding may add to an end


class Transfer:
    """Bytes on their way, or waiting for theirs."""

    __slots__ = ("_on_end", "left_bytes", "urgent")

    def __init__(self, num_bytes: int, urgent: bool, on_end: Callable[[bool], None]) -> None:
        self.left_bytes = float(num_bytes)
        self.urgent = urgent
        self._on_end = on_end  # told whether all has arrived

    def hurry(self) -> None:
        self.urgent = True

    def end(self, arrived: bool) -> None:
        self._on_end(arrived)


class Link:
    """Time passes where somebody calls `advance`; the end of a transfer is told then, too."""

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self.busy_s = 0.0
        self.now_s = 0.0
        self._transfers: list[Transfer] = []  # oldest first

    def start(self, num_bytes: int, *, urgent: bool, on_end: Callable[[bool], None]) -> Transfer:
        transfer = Transfer(num_bytes, urgent, on_end)
        self._transfers.append(transfer)
        return transfer

    def cancel(self, transfer: Transfer) -> None:
        self._transfers.remove(transfer)
        transfer.end(arrived=False)

    def advance(self, now_s: float) -> None:
        while self._transfers and self.now_s < now_s:
            transfer = self._next()
            ends_at_s = self.now_s + transfer.left_bytes / self.bytes_per_s
            until_s = min(ends_at_s, now_s)
            self.busy_s += until_s - self.now_s
            transfer.left_bytes -= (until_s - self.now_s) * self.bytes_per_s
            self.now_s = until_s
            if ends_at_s <= now_s + _EPSILON_S:
                self._transfers.remove(transfer)
                transfer.end(arrived=True)
        self.now_s = now_s

    def ends_at_s(self, transfer: Transfer) -> float:
        """If nothing more urgent comes."""
        index = self._transfers.index(transfer)
        before = [t for i, t in enumerate(self._transfers) if (not t.urgent, i) < (not transfer.urgent, index)]
        return self.now_s + (sum(t.left_bytes for t in before) + transfer.left_bytes) / self.bytes_per_s

    def next_end_s(self) -> float:
        """When something ends if nothing more comes; inf where nothing is on its way."""
        return self.now_s + self._next().left_bytes / self.bytes_per_s if self._transfers else inf

    def _next(self) -> Transfer:
        return min(self._transfers, key=lambda transfer: not transfer.urgent)
