"""Messages made of blocks, and the chat that they mean."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal

import msgspec

from gateway.http.bodies import json_text
from gateway.http.turns import merged
from gateway.request.params import invalid
from shared.messages import ChatMessage, ToolCall


class Typed(msgspec.Struct, frozen=True, tag_field="type"):
    """Told apart by its type."""


class TextBlock(Typed, frozen=True, tag="text"):
    text: str


class ThinkingBlock(Typed, frozen=True, tag="thinking"):
    thinking: str


class RedactedThinkingBlock(Typed, frozen=True, tag="redacted_thinking"):
    """Nothing that we could read."""


class ToolUseBlock(Typed, frozen=True, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(Typed, frozen=True, tag="tool_result"):
    tool_use_id: str
    content: str | list[TextBlock] | None = None


Block = TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock


class InputMessage(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


def text_of(content: str | Sequence[Block] | None) -> str:
    """Without what is no text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(block.text for block in content if isinstance(block, TextBlock))


def chat_messages(messages: Iterable[InputMessage]) -> tuple[ChatMessage, ...]:
    """Results of tools are messages of their own. Others of one role in a row are one turn, as many templates want
    roles to alternate. Raises RequestError."""
    parts = (_parts(message, f"messages[{index}].content") for index, message in enumerate(messages))
    return merged(chain.from_iterable(parts), "system", "user", "assistant")


def _parts(message: InputMessage, param: str) -> Iterator[ChatMessage]:
    blocks = [TextBlock(message.content)] if isinstance(message.content, str) else message.content
    others = [block for block in blocks if not isinstance(block, ToolResultBlock)]
    if message.role != "assistant" and any(isinstance(block, ToolUseBlock) for block in blocks):
        raise invalid("tool_use blocks are for messages of the assistant", param)
    if message.role != "user" and len(others) < len(blocks):
        raise invalid("tool_result blocks are for messages of the user", param)
    for block in blocks:
        if isinstance(block, ToolResultBlock):
            yield ChatMessage("tool", text_of(block.content), tool_call_id=block.tool_use_id)
    if others or not blocks:
        calls = tuple(
            ToolCall(block.id, block.name, json_text(block.input, param))
            for block in others
            if isinstance(block, ToolUseBlock)
        )
        thinking = "\n".join(block.thinking for block in others if isinstance(block, ThinkingBlock))
        yield ChatMessage(message.role, text_of(others), tool_calls=calls, reasoning=thinking or None)
