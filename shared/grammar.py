"""Grammars that an output has to match, by llguidance: compiled and followed under the same limits wherever that is.

A gateway's text process tries what a worker will run, so that a client hears what is wrong with its schema at once.
"""

from pathlib import Path
from typing import Final, assert_never

import msgspec
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import any_to_lark

from shared.errors import GrammarError
from shared.structured import GrammarKind

LIMITS: Final = LLParserLimits(
    initial_lexer_fuel=500_000,  # 10 ms
    step_lexer_fuel=200_000,  # 14 ms
    step_max_items=50_000,  # 3 ms
    max_lexer_states=50_000,  # 1 to 2 kB each
    max_grammar_size=100_000,  # symbols
    verbose_errors=False,  # they would quote the grammar
)
_MAX_MESSAGE_CHARS: Final = 400
_SILENT: Final = 0


def to_grammar(kind: GrammarKind, text: str) -> str:
    """llguidance's own form. text: of a JSON schema, a regular expression, a JSON list of choices, a Lark or GBNF
    grammar. Raises GrammarError for what does not even look like one; the rest shows when it is compiled."""
    match kind:
        case "json":
            return LLMatcher.grammar_from_json_schema(text)
        case "regex":
            return LLMatcher.grammar_from_regex(text)
        case "choice":
            choices = msgspec.json.decode(text, type=list[str])
            return "start: " + " | ".join(msgspec.json.encode(choice).decode() for choice in choices)
        case "grammar":
            try:
                return LLMatcher.grammar_from_lark(any_to_lark(text))
            except Exception as error:  # the converter raises whatever it meets
                raise GrammarError(f"not a Lark or GBNF grammar: {str(error)[:_MAX_MESSAGE_CHARS]}") from error
        case _:
            assert_never(kind)


def open_tokenizer(folder: Path) -> LLTokenizer:
    """Of a model's folder in the catalogue: a second or two of work. Its end token only marks that a grammar is
    complete; it is a special one, as those are no text. Raises GrammarError."""
    path = str(folder / "tokenizer.json")
    tokenizer = _read_tokenizer(path, None)
    if tokenizer.is_special_token(tokenizer.eos_token):
        return tokenizer
    special = next((i for i in reversed(range(tokenizer.vocab_size)) if tokenizer.is_special_token(i)), None)
    if special is None:
        raise GrammarError("the model's tokenizer has no special token to mark an end with")
    return _read_tokenizer(path, special)


def start_matcher(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """Raises GrammarError."""
    matcher = LLMatcher(tokenizer, grammar, log_level=_SILENT, limits=LIMITS)
    if matcher.is_error():
        raise GrammarError(said_by(matcher))
    return matcher


def said_by(matcher: LLMatcher) -> str:
    """Why it is in error, for the client."""
    return matcher.get_error()[:_MAX_MESSAGE_CHARS]


def _read_tokenizer(path: str, end_id: int | None) -> LLTokenizer:
    try:
        return LLTokenizer(path, eos_token=end_id)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        raise GrammarError(f"the model's tokenizer is of a kind that can't be guided: {str(error)[:200]}") from error
