"""How many tokens are out as text, while some of it is held back."""

from collections import deque


class TextProgress:
    """Text comes in pieces, of one or more tokens each, and its end may be held back. A token is out with the last
    character of its piece; one without text, with the piece before it."""

    def __init__(self) -> None:
        self.num_tokens_out = 0
        self._num_chars = 0  # of the text so far
        self._held: deque[tuple[int, int]] = (
            deque()
        )  # (tokens, characters) up to the end of pieces that are not out yet

    def feed(self, num_tokens: int, num_new_chars: int, num_held_chars: int) -> None:
        """A piece that ends with the `num_tokens`th token; of the text up to its end the last characters are held."""
        self._num_chars += num_new_chars
        self._held.append((num_tokens, self._num_chars))
        num_chars_out = self._num_chars - num_held_chars
        while self._held and self._held[0][1] <= num_chars_out:
            self.num_tokens_out, _ = self._held.popleft()
