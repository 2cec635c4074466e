"""Token ids to text, incrementally: never half a character, never the same text twice."""

from functools import partial
from typing import Final

from gateway.output.vocabulary import REPLACEMENT, Vocabulary

NUM_CONTEXT_TOKENS: Final = 8  # of a completion's prompt: enough for decoders that treat a text's beginning specially
# Skipped tokens and broken UTF-8 yield no text, and each step decodes all that yielded none: quadratic without a limit.
_MAX_SILENT_TOKENS: Final = 64


class Detokenizer:
    """The text of `context + output` without the text of `context`, special tokens skipped but for those shown."""

    def __init__(
        self, vocabulary: Vocabulary, context: tuple[int, ...] = (), shown_ids: frozenset[int] = frozenset()
    ) -> None:
        self._plain = vocabulary.plain
        self._decode = partial(vocabulary.decode, shown_ids=shown_ids)
        if self._decode(context).endswith(REPLACEMENT):
            context = ()  # it ends inside a character, so it has no text of its own to take off
        self._recent = list(context)  # what the newest text came from
        self._known = self._decode(self._recent)
        self._silent: list[int] = []  # what came after it and has yielded no text yet

    @property
    def num_silent(self) -> int:
        """Tokens whose text has not come out yet, if they have any."""
        return len(self._silent)

    def feed(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        if not self._silent and (plain := self._plain(token_id)):
            self._recent, self._known = [token_id], plain
            return plain
        self._silent.append(token_id)
        if len(self._silent) > _MAX_SILENT_TOKENS:
            return self._restart()
        text = self._decode(self._recent + self._silent)
        if len(text) <= len(self._known) or text.endswith(REPLACEMENT):
            return ""
        if not text.startswith(self._known):
            return self._restart()
        delta = text[len(self._known) :]
        self._recent, self._silent = self._silent, []
        self._known = self._decode(self._recent)
        return delta

    def flush(self) -> str:
        """The text of what is still incomplete, once no more tokens can come."""
        silent, self._silent = self._silent, []
        text = self._decode(self._recent + silent)
        return text[len(self._known) :] if text.startswith(self._known) else self._decode(silent)

    def _restart(self) -> str:
        text = self.flush()
        self._recent, self._known = [], ""
        return text
