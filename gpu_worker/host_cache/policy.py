"""Which blobs a host keeps: bookkeeping and choice, without bytes, descriptors or a clock.

A blob is reserved, filled, then mapped and unmapped by workers; one that is asked to leave goes when nobody maps it.
Always: free + used = total, and what is mapped or being filled stays.
"""

from dataclasses import dataclass, field
from typing import Final

from gpu_worker.host_cache.protocol import BlobId

PAGE_BYTES: Final = 4096
HALF_LIFE_S: Final = 600.0  # of a use's weight

MappingId = tuple[int, int]  # (worker's connection, number of its Acquire)


@dataclass(slots=True)
class _Entry:
    num_bytes: int  # whole pages
    num_uses: float  # decayed, as of counted_at_s
    counted_at_s: float
    reload_s: float | None = None  # what reading it takes; None while it is being filled
    mappings: set[MappingId] = field(default_factory=set)
    leaving: bool = False
    is_unwanted: bool = False  # it goes when nobody maps it

    def uses(self, now_s: float) -> float:
        return self.num_uses * 0.5 ** ((now_s - self.counted_at_s) / HALF_LIFE_S)

    def value_s(self, now_s: float) -> float:
        """Seconds that keeping it is expected to save."""
        assert self.reload_s is not None, "it is filled"
        return self.reload_s * self.uses(now_s)


class CachePolicy:
    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._entries: dict[BlobId, _Entry] = {}

    @property
    def used_bytes(self) -> int:
        return sum(entry.num_bytes for entry in self._entries.values())

    @property
    def free_bytes(self) -> int:
        return self.total_bytes - self.used_bytes

    def offers(self, blob: BlobId) -> bool:
        """Whether it can be mapped now."""
        entry = self._entries.get(blob)
        return entry is not None and entry.reload_s is not None and not entry.leaving

    def reserve(self, blob: BlobId, num_bytes: int, now_s: float) -> None:
        """The first step of every blob, and its first use. Raises ValueError where there is no room."""
        num_bytes = whole_pages(num_bytes)
        if blob in self._entries or num_bytes > self.free_bytes:
            raise ValueError(f"blob {blob} is there, or {num_bytes} bytes exceed the {self.free_bytes} free")
        self._entries[blob] = _Entry(num_bytes, 1.0, now_s)

    def fill(self, blob: BlobId, reload_s: float) -> None:
        self._entries[blob].reload_s = reload_s

    def map(self, blob: BlobId, mapping: MappingId) -> None:
        if not self.offers(blob):
            raise ValueError(f"blob {blob} can't be mapped")
        entry = self._entries[blob]
        entry.mappings.add(mapping)
        entry.is_unwanted = False

    def unmap(self, blob: BlobId, mapping: MappingId) -> None:
        self._entries[blob].mappings.remove(mapping)

    def note_use(self, blob: BlobId, now_s: float) -> None:
        entry = self._entries[blob]
        entry.num_uses, entry.counted_at_s = entry.uses(now_s) + 1.0, now_s

    def ask_to_leave(self, num_bytes: int, now_s: float) -> list[MappingId]:
        """Picks what else has to go until `num_bytes` are free; returns the mappings that stand in the way."""
        missing_bytes = whole_pages(num_bytes) - self.free_bytes
        missing_bytes -= sum(entry.num_bytes for entry in self._entries.values() if entry.leaving)
        staying = [entry for entry in self._entries.values() if entry.reload_s is not None and not entry.leaving]
        chosen = _least_valuable(staying, missing_bytes, now_s)
        for entry in chosen:
            entry.leaving = True
        return [mapping for entry in chosen for mapping in entry.mappings]

    def stay(self) -> None:
        """Who was asked to leave and has not left need not go."""
        for entry in self._entries.values():
            entry.leaving = False

    def drop(self, blob: BlobId) -> None:
        """It goes when nobody maps it, unless somebody maps it anew before."""
        entry = self._entries.get(blob)
        if entry is not None and entry.reload_s is not None:
            entry.is_unwanted = True

    def gone(self) -> list[BlobId]:
        """Forgets what was asked to leave, or dropped, and is mapped by nobody."""
        going = ((blob, entry) for blob, entry in self._entries.items() if entry.leaving or entry.is_unwanted)
        blobs = [blob for blob, entry in going if not entry.mappings]
        for blob in blobs:
            del self._entries[blob]
        return blobs

    def abandon(self, blob: BlobId) -> None:
        """It could not be filled."""
        if self._entries[blob].reload_s is not None:
            raise ValueError(f"blob {blob} is filled")
        del self._entries[blob]


def whole_pages(num_bytes: int) -> int:
    return -(-num_bytes // PAGE_BYTES) * PAGE_BYTES


def _least_valuable(entries: list[_Entry], missing_bytes: int, now_s: float) -> list[_Entry]:
    """The least valuable per byte, until they are enough; then the most valuable that are not needed stay."""
    chosen: list[_Entry] = []
    for entry in sorted(entries, key=lambda entry: entry.value_s(now_s) / entry.num_bytes):
        if missing_bytes <= 0:
            break
        chosen.append(entry)
        missing_bytes -= entry.num_bytes
    needed = []
    for entry in sorted(chosen, key=lambda entry: -entry.value_s(now_s)):
        if missing_bytes + entry.num_bytes <= 0:
            missing_bytes += entry.num_bytes
        else:
            needed.append(entry)
    return needed
