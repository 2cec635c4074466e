"""Compiles a grammar as a worker will, so that a client hears at once what can't be kept of what it asks for."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Final

from llguidance import LLTokenizer

from shared.errors import GrammarError
from shared.grammar import open_tokenizer, said_by, start_matcher, to_grammar
from shared.structured import GrammarKind

_MAX_TOKENIZERS: Final = 16
_MAX_GRAMMARS: Final = 256  # whoever asks for one form of output asks for it again
_STACK_BYTES: Final = 1 << 20  # less than threads of a worker have: what overflows it ends this process, and no worker


@lru_cache(maxsize=_MAX_TOKENIZERS)
def load(folder: str) -> LLTokenizer:
    """Of a model in the catalogue. Raises GrammarError."""
    return open_tokenizer(Path(folder))


@lru_cache(maxsize=_MAX_GRAMMARS)
def constrain(folder: str, kind: GrammarKind, text: str) -> str:
    """The grammar in llguidance's form. Raises GrammarError."""
    tokenizer = load(folder)
    threading.stack_size(_STACK_BYTES)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_try, tokenizer, kind, text).result()


def _try(tokenizer: LLTokenizer, kind: GrammarKind, text: str) -> str:
    grammar = to_grammar(kind, text)
    matcher = start_matcher(tokenizer, grammar)
    matcher.compute_bitmask()
    if matcher.is_error():
        raise GrammarError(said_by(matcher))
    return grammar
