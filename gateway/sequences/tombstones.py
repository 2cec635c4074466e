"""Attempts that are over for this gateway, so that a worker that still runs one is told to stop."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from shared.ids import ModelName, RequestId

RECANCEL_S: Final = 1.0  # a cancel takes a moment to arrive
NEVER_S: Final = float("-inf")


@dataclass(slots=True)
class _Tombstone:
    model: ModelName
    cancelled_at_s: float


class Tombstones:
    """The newest `max_entries`."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[tuple[RequestId, int], _Tombstone] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, request_id: RequestId, attempt: int, model: ModelName, cancelled_at_s: float = NEVER_S) -> None:
        self._entries[request_id, attempt] = _Tombstone(model, cancelled_at_s)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def model_to_cancel(self, request_id: RequestId, attempt: int, now_s: float) -> ModelName | None:
        """The model of a dead attempt that shows life, unless it was cancelled just now."""
        tombstone = self._entries.get((request_id, attempt))
        if tombstone is None or now_s - tombstone.cancelled_at_s < RECANCEL_S:
            return None
        tombstone.cancelled_at_s = now_s
        return tombstone.model
