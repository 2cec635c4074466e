"""How a model's answers to chats are written, as far as its chat template says so."""

from dataclasses import dataclass

from gateway.output.reasoning import ReasoningFormat, reasoning_format
from gateway.tools.formats import ToolFormat, tool_format


@dataclass(frozen=True, slots=True)
class Dialect:
    tools: ToolFormat | None = None
    reasoning: ReasoningFormat | None = None


def dialect_of(template: str) -> Dialect:
    return Dialect(tool_format(template), reasoning_format(template))
