"""A chat's answer in its parts: reasoning, content, tool calls."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from gateway.output.reasoning import ReasoningSplitter
from gateway.tools.parser import ToolCallParser
from shared.messages import ToolCall, ToolCallPiece


class Parts(NamedTuple):
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallPiece, ...] = ()


@dataclass(slots=True)
class AnswerReader:
    """Takes a text as it comes. Without splitter and parser all of it is content."""

    splitter: ReasoningSplitter | None = None
    parser: ToolCallParser | None = None

    @property
    def num_held(self) -> int:
        """Characters at the end of the text so far that are neither out nor dropped."""
        held = self.splitter.num_held if self.splitter else 0
        return held + (self.parser.num_held if self.parser else 0)

    @property
    def is_reasoning(self) -> bool:
        return self.splitter is not None and self.splitter.is_reasoning

    @property
    def has_calls(self) -> bool:
        return self.parser is not None and self.parser.num_calls > 0

    @property
    def is_complete(self) -> bool:
        """No further text is wanted."""
        return self.parser is not None and self.parser.is_complete

    def feed(self, text: str, *, is_last: bool = False) -> Parts:
        """What may go out now."""
        reasoning = ""
        if self.splitter is not None:
            reasoning, text = self.splitter.feed(text, is_last=is_last)
        if self.parser is None:
            return Parts(text, reasoning)
        content, calls = self.parser.feed(text, is_last=is_last)
        return Parts(content, reasoning, tuple(calls))


class Reading(NamedTuple):
    """How one answer is read."""

    reader: AnswerReader
    shown_ids: frozenset[int] = frozenset()  # special tokens that the reader wants to see


def joined(parts: list[Parts]) -> Parts:
    """One after the other. A call keeps its pieces."""
    if len(parts) == 1:
        return parts[0]
    calls = tuple(piece for part in parts for piece in part.tool_calls)
    return Parts("".join(part.content for part in parts), "".join(part.reasoning for part in parts), calls)


def whole_calls(pieces: Iterable[ToolCallPiece]) -> tuple[ToolCall, ...]:
    """Calls from all of their pieces."""
    heads: dict[int, ToolCallPiece] = {}
    arguments: dict[int, list[str]] = {}
    for piece in pieces:
        heads.setdefault(piece.index, piece)
        arguments.setdefault(piece.index, []).append(piece.arguments)
    return tuple(ToolCall(head.id, head.name, "".join(arguments[index])) for index, head in heads.items())
