"""The grammars of one model's sequences, compiled for its tokenizer."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from llguidance import LLMatcher, LLTokenizer

from gpu_worker.guidance.guide import Guide
from shared.errors import GrammarError
from shared.grammar import open_tokenizer, said_by, start_matcher

_MAX_COMPILED: Final = 32  # whoever asks for one form of output asks for it again
_PIECE_TOKENS: Final = 64  # consumed at a time: meanwhile the GIL is held


class Grammars:
    """Reads the tokenizer when the first grammar comes, which holds the GIL for seconds."""

    def __init__(self, folder: Path) -> None:
        """folder: of the model in the catalogue."""
        self._folder = folder
        self._lock = Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()  # at their start; least recently used first

    def open(self) -> LLTokenizer:
        """Reads the tokenizer, the first time. Raises GrammarError."""
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = open_tokenizer(self._folder)
            return self._tokenizer

    def guide(self, grammar: str, output: Sequence[int]) -> Guide:
        """Where the output that the client has got leaves off. Raises GrammarError."""
        tokenizer = self.open()
        matcher = self._start(grammar, tokenizer)
        for first in range(0, len(output), _PIECE_TOKENS):
            if not matcher.consume_tokens(list(output[first : first + _PIECE_TOKENS])):
                raise GrammarError(f"the output so far does not match: {said_by(matcher)}")
        return Guide(matcher, tokenizer.vocab_size, tokenizer.eos_token)

    def _start(self, grammar: str, tokenizer: LLTokenizer) -> LLMatcher:
        with self._lock:
            compiled = self._compiled.get(grammar)
        if compiled is None:
            compiled = start_matcher(tokenizer, grammar)
        with self._lock:
            self._compiled[grammar] = compiled
            self._compiled.move_to_end(grammar)
            if len(self._compiled) > _MAX_COMPILED:
                self._compiled.popitem(last=False)
        return compiled.deep_copy()
