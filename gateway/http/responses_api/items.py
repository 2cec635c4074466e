"""The input's items, and the chat that they mean."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from gateway.http.turns import merged
from gateway.request.params import invalid
from shared.errors import RequestError
from shared.messages import ChatMessage, ToolCall


class ContentPart(msgspec.Struct, frozen=True):
    """Of the client's messages and, when it sends them back, of ours."""

    type: Literal["input_text", "output_text", "text", "refusal", "reasoning_text", "summary_text"]
    text: str | None = None
    refusal: str | None = None


Content = str | list[ContentPart]


class InputItem(msgspec.Struct, frozen=True, kw_only=True):
    """Of which each type has some of the fields."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None  # of a message
    content: Content | None = None  # of a message, or of reasoning
    call_id: str | None = None  # of a call and its output
    name: str | None = None  # of a call
    arguments: str | None = None  # of a call
    output: Content | None = None  # of a call's output

    def message(self, param: str) -> ChatMessage:
        """Raises RequestError."""
        match self.type:
            case "message":
                return ChatMessage(_given(self.role, f"{param}.role"), _text(self.content, f"{param}.content"))
            case "function_call":
                call = ToolCall(
                    _given(self.call_id, f"{param}.call_id"),
                    _given(self.name, f"{param}.name"),
                    _given(self.arguments, f"{param}.arguments"),
                )
                return ChatMessage("assistant", "", tool_calls=(call,))
            case "function_call_output":
                text = _text(self.output, f"{param}.output")
                return ChatMessage("tool", text, tool_call_id=_given(self.call_id, f"{param}.call_id"))
            case "reasoning":
                return ChatMessage("assistant", "", reasoning=_text(self.content or "", param))


def chat_messages(given: str | Iterable[InputItem]) -> tuple[ChatMessage, ...]:
    """What an assistant thought, said and called in a row is one message. Raises RequestError."""
    if isinstance(given, str):
        return (ChatMessage("user", given),)
    return merged((item.message(f"input[{index}]") for index, item in enumerate(given)), "assistant")


def _text(content: Content | None, param: str) -> str:
    if content is None:
        raise _missing(param)
    if isinstance(content, str):
        return content
    return "\n".join(part.text or part.refusal or "" for part in content)


def _given(value: str | None, param: str) -> str:
    if value is None:
        raise _missing(param)
    return value


def _missing(param: str) -> RequestError:
    return invalid(f"{param} is missing.", param)
