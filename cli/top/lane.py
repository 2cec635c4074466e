"""What a worker did lately, as a strip of cells. Pure: instants are the gateway's, and come in as arguments."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cli.top.feed import Turn

KEPT_S: Final = 120.0
_MAX_BARS: Final = 20_000
_JOINED_S: Final = 0.02  # the loop's own time between two steps of a model is no gap that anybody could see


@dataclass(slots=True)
class Bar:
    """A model had the device in [start_s, end_s)."""

    start_s: float
    end_s: float
    model: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One column."""

    model: str | None  # which had most of it; None: nobody ran
    share: float  # of the time that anybody ran
    waited: bool  # more of it went by with waiting for weights than with steps


class Lane:
    def __init__(self) -> None:
        self._bars: deque[Bar] = deque(maxlen=_MAX_BARS)  # in order, none overlaps another one
        self._waits: deque[Bar] = deque(maxlen=_MAX_BARS)  # for the weights of a model

    def add(self, turns: Iterable[Turn]) -> None:
        for turn in turns:
            if turn.switch is not None and turn.switch.waited_s > 0:
                self._waits.append(Bar(turn.began_at_s - turn.switch.waited_s, turn.began_at_s, turn.model))
            for step in turn.steps:
                start_s = turn.began_at_s + step.offset_s
                self._add_bar(Bar(start_s, start_s + step.duration_s, turn.model))
        self._forget()

    def _add_bar(self, bar: Bar) -> None:
        last = self._bars[-1] if self._bars else None
        if last is not None and last.model == bar.model and bar.start_s - last.end_s <= _JOINED_S:
            last.end_s = max(last.end_s, bar.end_s)
        else:
            self._bars.append(bar)

    def _forget(self) -> None:
        for bars in (self._bars, self._waits):
            while bars and bars[0].end_s < bars[-1].end_s - KEPT_S:
                bars.popleft()

    def cells(self, until_s: float, span_s: float, num_cells: int) -> list[Cell]:
        """The last `span_s` seconds, the oldest first."""
        ran = _shares(self._bars, until_s, span_s, num_cells)
        waited = _shares(self._waits, until_s, span_s, num_cells)
        return [_cell(models, sum(waits.values())) for models, waits in zip(ran, waited, strict=True)]


def _cell(ran: dict[str, float], waited: float) -> Cell:
    if not ran:
        return Cell(None, 0.0, waited > 0)
    share = sum(ran.values())
    return Cell(max(ran, key=lambda model: ran[model]), min(1.0, share), waited > share)


def _shares(bars: deque[Bar], until_s: float, span_s: float, num_cells: int) -> list[dict[str, float]]:
    """For each cell, of which part of its time each model had."""
    shares: list[dict[str, float]] = [{} for _ in range(num_cells)]
    cell_s = span_s / num_cells
    from_s = until_s - span_s
    visible = list(bars)
    for bar in visible[bisect_left(visible, from_s, key=lambda bar: bar.end_s) :]:
        first = max(0, int((bar.start_s - from_s) / cell_s))
        for index in range(first, num_cells):
            begin_s = from_s + index * cell_s
            if begin_s >= bar.end_s:
                break
            overlap_s = min(bar.end_s, begin_s + cell_s) - max(bar.start_s, begin_s)
            if overlap_s > 0:
                shares[index][bar.model] = shares[index].get(bar.model, 0.0) + overlap_s / cell_s
    return shares
