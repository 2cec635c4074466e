"""The weight region: one contiguous range per resident model, and whom to evict so that another fits."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from math import inf

from shared.ids import ModelName

ALIGN_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """The half-open range [offset, offset + num_bytes)."""

    offset: int
    num_bytes: int
    used: bool


class Arena:
    """First fit over free ranges; offsets and sizes are multiples of `align_bytes`, neighbours are joined on free."""

    def __init__(self, total_bytes: int, align_bytes: int = ALIGN_BYTES) -> None:
        """A tail smaller than `align_bytes` is left unused."""
        self.align_bytes = align_bytes
        self.total_bytes = total_bytes // align_bytes * align_bytes
        # [start, end), ascending; no two touch.
        self._free: list[tuple[int, int]] = [(0, self.total_bytes)] if self.total_bytes else []
        self._used: dict[int, int] = {}  # offset -> end

    def copy(self) -> "Arena":
        twin = Arena(self.total_bytes, self.align_bytes)
        twin._free, twin._used = self._free.copy(), self._used.copy()
        return twin

    def rounded(self, num_bytes: int) -> int:
        """What a range of `num_bytes` takes."""
        return -(-num_bytes // self.align_bytes) * self.align_bytes

    @property
    def free_bytes(self) -> int:
        return sum(end - start for start, end in self._free)

    @property
    def largest_free_range(self) -> int:
        return max((end - start for start, end in self._free), default=0)

    @property
    def free_tail(self) -> int:
        """Where the free range at the end begins; the end, where there is none."""
        return self._free[-1][0] if self._free and self._free[-1][1] == self.total_bytes else self.total_bytes

    def resize(self, total_bytes: int) -> None:
        """Moves the end. Raises ValueError where that would cut a used range."""
        total_bytes = total_bytes // self.align_bytes * self.align_bytes
        tail = self.free_tail
        if total_bytes < tail:
            raise ValueError(f"the range that ends at {tail} does not fit {total_bytes} bytes")
        if tail < self.total_bytes:
            self._free.pop()
        self.total_bytes = total_bytes
        if tail < total_bytes:
            self._free.append((tail, total_bytes))

    def allocate(self, num_bytes: int, preferred_offset: int | None = None) -> int | None:
        """The range's offset: the preferred one when that is free, else the first that fits; None when none does."""
        if num_bytes <= 0:
            raise ValueError(f"a range of {num_bytes} bytes")
        size = self.rounded(num_bytes)
        fitting = ((i, start) for i, (start, end) in enumerate(self._free) if end - start >= size)
        index, offset = next(fitting, (-1, -1))
        if index < 0:
            return None
        if preferred_offset is not None and preferred_offset % self.align_bytes == 0:
            for i, (start, end) in enumerate(self._free):
                if start <= preferred_offset and preferred_offset + size <= end:
                    index, offset = i, preferred_offset
        start, end = self._free[index]
        rest = ((start, offset), (offset + size, end))
        self._free[index : index + 1] = [(a, b) for a, b in rest if a < b]
        self._used[offset] = offset + size
        return offset

    def free(self, offset: int) -> None:
        """Raises ValueError when no range begins there."""
        end = self._used.pop(offset, None)
        if end is None:
            raise ValueError(f"no range begins at {offset}")
        start = offset
        index = bisect_left(self._free, (start, end))
        first = last = index
        if index < len(self._free) and self._free[index][0] == end:
            last, end = index + 1, self._free[index][1]
        if index > 0 and self._free[index - 1][1] == start:
            first, start = index - 1, self._free[index - 1][0]
        self._free[first:last] = [(start, end)]

    def spans(self) -> list[Span]:
        """Free and used ranges, ascending; together they are [0, total_bytes)."""
        free = [Span(start, end - start, used=False) for start, end in self._free]
        used = [Span(start, end - start, used=True) for start, end in self._used.items()]
        return sorted(free + used, key=lambda span: span.offset)


def plan_eviction(arena: Arena, num_bytes: int, residents: Sequence[tuple[ModelName, int]]) -> list[ModelName] | None:
    """Neighbours to evict so that `num_bytes` fit in one range; [] when they fit already, None when they can't.

    `residents` are (model, offset) that may go, the one whose turn comes soonest first; used ranges not among them
    stay. The soonest turn among the evicted is as late as possible, then the next soonest, then they are as few.
    """
    rank_of = {offset: rank for rank, (_, offset) in enumerate(residents)}
    choices = eviction_choices(arena, num_bytes, rank_of.keys())
    # Ascending ranks, then inf: of a set and its superset, the set is greater.
    best = max(([*sorted(rank_of[offset] for offset in choice), inf] for choice in choices), default=None)
    return None if best is None else [residents[int(rank)][0] for rank in best[:-1]]


def eviction_choices(arena: Arena, num_bytes: int, movable: Set[int]) -> Iterator[list[int]]:
    """Offsets of neighbours that make room for `num_bytes` when they go: from each span on, as few as are enough.

    `movable`: offsets of those that may go.
    """
    spans = arena.spans()
    needed_bytes = arena.rounded(num_bytes)
    for first in range(len(spans)):
        window_bytes = 0
        offsets: list[int] = []
        for span in spans[first:]:
            if span.used:
                if span.offset not in movable:
                    break
                offsets.append(span.offset)
            window_bytes += span.num_bytes
            if window_bytes >= needed_bytes:
                yield offsets
                break
