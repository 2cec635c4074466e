"""Stop strings over a text that arrives in pieces."""


class StopStrings:
    """Passes text on up to the first stop string, wherever the pieces are cut.

    The stop string that is complete first wins; of those complete at the same character, the longest. So the result
    depends on the text alone. Text is held back only while it could be the beginning of a stop string.
    """

    def __init__(self, stops: tuple[str, ...], *, keep: bool = False) -> None:
        """keep: the one that is found goes out with the text before it."""
        self._stops = stops
        self._keep = keep
        self._max_held = max((len(stop) for stop in stops), default=1) - 1
        self._held = ""
        self.found: str | None = None  # the one that cut the text

    @property
    def num_held(self) -> int:
        """Characters."""
        return len(self._held)

    def feed(self, piece: str) -> tuple[str, bool]:
        """The text that may go out, and whether a stop string was found (then nothing follows)."""
        text = self._held + piece
        found = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            end, start = min(found)
            self.found = text[start:end]
            self._held = ""
            return text[: end if self._keep else start], True
        cut = self._first_possible_start(text)
        self._held = text[cut:]
        return text[:cut], False

    def flush(self) -> str:
        """What was held back, once no more text can come."""
        held, self._held = self._held, ""
        return held

    def _first_possible_start(self, text: str) -> int:
        """The least index from which the text's tail is the beginning of a stop string, or its length."""
        cut = len(text)
        for stop in self._stops:
            start = max(0, len(text) - len(stop) + 1, len(text) - self._max_held)
            while 0 <= (start := text.find(stop[0], start)) < cut:
                if stop.startswith(text[start:]):
                    cut = start
                    break
                start += 1
        return cut
