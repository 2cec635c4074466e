"""Token ids to text, incrementally: never half a character, never the same text twice."""

from typing import Final

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

NUM_CONTEXT_TOKENS: Final = 8  # of a completion's prompt: enough for decoders that treat a text's beginning specially
_REPLACEMENT: Final = "\ufffd"
# Skipped tokens and broken UTF-8 yield no text, and each step decodes all that yielded none: quadratic without a limit.
_MAX_SILENT_TOKENS: Final = 64


class Detokenizer:
    """The text of `context + output` without the text of `context`, special tokens skipped."""

    def __init__(self, tokenizer: Tokenizer, context: tuple[int, ...] = ()) -> None:
        if tokenizer.decode(context).endswith(_REPLACEMENT):
            context = ()  # it ends inside a character, so it has no text of its own to take off
        self._tokenizer = tokenizer
        self._recent = list(context)  # what the newest text came from
        self._silent: list[int] = []  # what came after it and has yielded no text yet
        self._stream = DecodeStream(ids=self._recent, skip_special_tokens=True)

    @property
    def num_silent(self) -> int:
        """Tokens whose text has not come out yet, if they have any."""
        return len(self._silent)

    def feed(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        self._silent.append(token_id)
        if len(self._silent) > _MAX_SILENT_TOKENS:
            return self._restart()
        try:
            text = self._stream.step(self._tokenizer, token_id)
        except Exception as error:  # the library has no class of its own for it
            if "Invalid prefix" not in str(error):
                raise
            return self._restart()
        if text is None:
            return ""
        self._recent, self._silent = self._silent, []
        return text

    def flush(self) -> str:
        """The text of what is still incomplete, once no more tokens can come."""
        silent, self._silent = self._silent, []
        known = self._tokenizer.decode(self._recent)
        text = self._tokenizer.decode(self._recent + silent)
        return text[len(known) :] if text.startswith(known) else self._tokenizer.decode(silent)

    def _restart(self) -> str:
        text = self.flush()
        self._recent = []
        self._stream = DecodeStream(ids=[], skip_special_tokens=True)
        return text
