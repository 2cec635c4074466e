"""Messages of a chat, as clients send them.

Sources: platform.openai.com/docs/api-reference/chat/create (messages); vLLM for reasoning.
"""

from typing import Final

import msgspec

from gateway.request.params import invalid
from shared.messages import ChatMessage, ToolCall

NO_ARGUMENTS: Final = "{}"


class ContentPart(msgspec.Struct, frozen=True):
    type: str
    text: str | None = None


class FunctionCall(msgspec.Struct, frozen=True):
    name: str
    arguments: str = NO_ARGUMENTS  # JSON


class MessageToolCall(msgspec.Struct, frozen=True):
    id: str
    function: FunctionCall
    type: str = "function"


class RequestMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[MessageToolCall] | None = None  # of an assistant
    tool_call_id: str | None = None  # of a tool
    reasoning: str | None = None  # of an assistant,
    reasoning_content: str | None = None  # by its former name


def chat_message(message: RequestMessage, index: int) -> ChatMessage:
    """Raises RequestError."""
    calls = message.tool_calls or ()
    return ChatMessage(
        message.role,
        _content(message, index),
        tuple(ToolCall(call.id, call.function.name, call.function.arguments or NO_ARGUMENTS) for call in calls),
        message.tool_call_id,
        message.name,
        message.reasoning_content if message.reasoning is None else message.reasoning,
    )


def _content(message: RequestMessage, index: int) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    for part in message.content:
        if part.type != "text" or part.text is None:
            raise invalid("Only content parts of type text are supported.", f"messages[{index}].content")
    return "\n".join(part.text or "" for part in message.content)
