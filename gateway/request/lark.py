"""Pieces of grammars in llguidance's Lark, and reasoning before what a grammar is about."""

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.output.reasoning import ReasoningFormat
from gateway.output.vocabulary import Vocabulary
from gateway.request.structured import one_line
from shared.structured import JsonSchema

_HEAD: Final = "%llguidance {}"  # says that it is Lark, whatever its literals look like
_TEXT: Final = "TEXT: /(.|\\n)*/"
_GAP: Final = "GAP: /\\n{0,2}/"


def literal(text: str) -> str:
    return msgspec.json.encode(text).decode()


def marker(text: str, vocabulary: Vocabulary) -> str:
    """As its token, where it is one: those are no text for a grammar, which takes each <...> for a special one."""
    token_id = vocabulary.id_of(text)
    return literal(text) if token_id is None else f"<[{token_id}]>"


def json_value(schema: JsonSchema) -> str:
    return f"%json {msgspec.json.encode(one_line(schema)).decode()}"


def grammar(
    answer: Iterable[str], reasoning: ReasoningFormat | None, vocabulary: Vocabulary, *, has_begun: bool
) -> str:
    """answer: rules, the first of which is `answer`. A model that reasons may do so first; has_begun: it does."""
    if reasoning is None:
        return "\n".join([_HEAD, "start: answer", *answer])
    opening, closing = marker(reasoning.opening, vocabulary), marker(reasoning.closing, vocabulary)
    start = "start: reasoning GAP answer" if has_begun else f"start: ({opening} reasoning GAP)? answer"
    is_text = vocabulary.id_of(reasoning.closing) is None
    end = f"reasoning[lazy]: TEXT {closing}" if is_text else f"reasoning: TEXT {closing}"
    return "\n".join([_HEAD, start, end, _TEXT, _GAP, *answer])
