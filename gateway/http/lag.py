"""How far a reader is behind: since when what was written has been waiting for its socket. Pure."""


class Lag:
    """Follows one mark at a time: a place in the bytes written, and when they had got there.

    A reader that is further behind than some time is found once two such times are over, at most.
    """

    def __init__(self) -> None:
        self._mark_bytes = 0
        self._marked_at_s: float | None = None

    def look(self, num_written_bytes: int, num_unsent_bytes: int, now_s: float) -> float:
        """Seconds for which something that was written has waited, at least; of all written bytes the last wait."""
        if not num_unsent_bytes:
            self._marked_at_s = None
            return 0.0
        if self._marked_at_s is None or num_written_bytes - num_unsent_bytes >= self._mark_bytes:
            self._mark_bytes, self._marked_at_s = num_written_bytes, now_s
        return now_s - self._marked_at_s
