"""What is expected of the answer to a chat: how it is read, and what it has to match."""

import secrets
import string
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.output.answer import AnswerReader, Reading
from gateway.output.reasoning import ReasoningSplitter
from gateway.output.vocabulary import Vocabulary
from gateway.request import lark
from gateway.request.dialect import Dialect
from gateway.request.params import invalid
from gateway.request.structured import MAX_BYTES, Constraint
from gateway.tools.formats import ToolFormat
from gateway.tools.grammar import required_calls
from gateway.tools.parser import ToolCallParser
from shared.messages import ChatOptions

_NUM_TAIL_TOKENS: Final = 8  # of a prompt: enough for an opening marker and white space
_ID_CHARS: Final = string.ascii_letters + string.digits
_SHORT_ID_CHARS: Final = 9  # Mistral's templates accept no other length
_LONG_ID_CHARS: Final = 24


@dataclass(frozen=True, slots=True)
class ExpectedAnswer:
    constraint: Constraint | None
    dialect: Dialect
    options: ChatOptions
    vocabulary: Vocabulary
    begins_reasoning: bool  # with its first token: the prompt has opened it

    def open_reading(self) -> Reading:
        """Of one choice."""
        splitter, parser = None, None
        markers: list[str] = []
        if (reasoning := self.dialect.reasoning) is not None:
            markers += (reasoning.opening, reasoning.closing)
            splitter = ReasoningSplitter(reasoning, has_begun=self.begins_reasoning)
        form, options = self.dialect.tools, self.options
        if form is not None and _offers_tools(options):
            markers += form.markers
            names = frozenset(tool.name for tool in options.tools)
            new_call_id = _short_call_id if form.has_short_ids else _call_id
            parser = ToolCallParser(form, names, new_call_id, parallel=options.parallel_tool_calls)
        shown_ids = frozenset(i for marker in markers if (i := self.vocabulary.id_of(marker)) is not None)
        return Reading(AnswerReader(splitter, parser), shown_ids)


def expect(
    dialect: Dialect, options: ChatOptions, prompt: tuple[int, ...], vocabulary: Vocabulary, asked: Constraint | None
) -> ExpectedAnswer:
    """`prompt`: what the chat has become. `asked`: what its content has to match; calls stand beside it, or, where they
    are required, in its place. Raises RequestError.
    """
    has_begun = _ends_with_opening(prompt, dialect, vocabulary)
    rules, param = _rules(dialect, options, vocabulary, asked)
    if not rules:
        begins_reasoning = has_begun and asked is None  # else with what was asked for
        return ExpectedAnswer(asked, dialect, options, vocabulary, begins_reasoning)
    text = lark.grammar(rules, dialect.reasoning, vocabulary, has_begun=has_begun)
    if len(text.encode()) > MAX_BYTES:
        raise invalid(f"{param} make a grammar of more than {MAX_BYTES} bytes.", param)
    return ExpectedAnswer(Constraint("grammar", text, param), dialect, options, vocabulary, has_begun)


def _rules(
    dialect: Dialect, options: ChatOptions, vocabulary: Vocabulary, asked: Constraint | None
) -> tuple[list[str], str]:
    """Of `answer`, and the parameter that they are for; none where a grammar of our own is not needed or possible."""
    form = dialect.tools if _offers_tools(options) else None
    if form is not None and options.tool_choice in ("required", "named"):
        return ["answer: calls", *_calls(form, options, vocabulary)], "tools"
    if asked is None or asked.kind not in ("json", "choice"):
        return [], ""
    if form is not None and form.style != "bare":  # else a call could not be told from what was asked for
        return ["answer: calls | content", _content(asked), *_calls(form, options, vocabulary)], asked.param
    return (["answer: content", _content(asked)] if dialect.reasoning is not None else []), asked.param


def _calls(form: ToolFormat, options: ChatOptions, vocabulary: Vocabulary) -> list[str]:
    if sum(len(tool.parameters) for tool in options.tools) > MAX_BYTES:  # before anything is made of it
        raise invalid(f"Tools that a grammar is made of may have at most {MAX_BYTES} bytes together.", "tools")
    return required_calls(form, options, vocabulary)


def _content(asked: Constraint) -> str:
    if asked.kind == "json":
        return f"content: %json {asked.text}"
    return "content: " + " | ".join(map(lark.literal, msgspec.json.decode(asked.text, type=list[str])))


def _offers_tools(options: ChatOptions) -> bool:
    return bool(options.tools) and options.tool_choice != "none"


def _ends_with_opening(prompt: tuple[int, ...], dialect: Dialect, vocabulary: Vocabulary) -> bool:
    if dialect.reasoning is None:
        return False
    opening = dialect.reasoning.opening
    opening_id = vocabulary.id_of(opening)
    tail = vocabulary.decode(prompt[-_NUM_TAIL_TOKENS:], () if opening_id is None else (opening_id,))
    return tail.rstrip().endswith(opening)


def _call_id() -> str:
    return "call_" + _random(_LONG_ID_CHARS)


def _short_call_id() -> str:
    return _random(_SHORT_ID_CHARS)


def _random(num_chars: int) -> str:
    return "".join(secrets.choice(_ID_CHARS) for _ in range(num_chars))
