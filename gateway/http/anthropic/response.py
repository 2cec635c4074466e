"""POST /v1/messages: the answer, and the events that it comes in.

Sources: platform.claude.com/docs/en/api/messages, platform.claude.com/docs/en/build-with-claude/streaming
"""

from typing import Any, Final, Literal

import msgspec

from gateway.output.answer import Parts, whole_calls
from gateway.output.choice import FinishReason
from gateway.output.generation import Generation
from shared.messages import ToolCall

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
_INVALID_JSON: Final = "invalid_json"  # has what a model wrote as input, where that is no JSON object


class _Typed(msgspec.Struct, frozen=True, tag_field="type"):
    pass


class Text(_Typed, frozen=True, tag="text"):
    text: str


class Thinking(_Typed, frozen=True, tag="thinking"):
    thinking: str
    signature: str = ""


class ToolUse(_Typed, frozen=True, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


Block = Text | Thinking | ToolUse


class Usage(msgspec.Struct, frozen=True):
    """The prompt has input_tokens + cache_read_input_tokens."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int = 0


class Message(_Typed, frozen=True, tag="message"):
    id: str
    model: str
    content: list[Block]
    usage: Usage
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    role: str = "assistant"


class TokenCount(msgspec.Struct, frozen=True):
    input_tokens: int


# --- events -------------------------------------------------------------------------------------


class MessageStart(_Typed, frozen=True, tag="message_start"):
    message: Message


class BlockStart(_Typed, frozen=True, tag="content_block_start"):
    index: int
    content_block: Block


class TextDelta(_Typed, frozen=True, tag="text_delta"):
    text: str


class ThinkingDelta(_Typed, frozen=True, tag="thinking_delta"):
    thinking: str


class InputDelta(_Typed, frozen=True, tag="input_json_delta"):
    partial_json: str


class BlockDelta(_Typed, frozen=True, tag="content_block_delta"):
    index: int
    delta: TextDelta | ThinkingDelta | InputDelta


class BlockStop(_Typed, frozen=True, tag="content_block_stop"):
    index: int


class Stop(msgspec.Struct, frozen=True):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(_Typed, frozen=True, tag="message_delta"):
    delta: Stop
    usage: Usage  # of the whole answer


class MessageStop(_Typed, frozen=True, tag="message_stop"):
    pass


class Ping(_Typed, frozen=True, tag="ping"):
    pass


_STOP_REASONS: Final[dict[FinishReason, StopReason]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
}
StreamEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping


def usage_of(generation: Generation) -> Usage:
    num_cached = generation.num_cached_tokens
    return Usage(generation.num_prompt_tokens - num_cached, generation.num_output_tokens, num_cached)


def stop_of(generation: Generation) -> Stop:
    """Of an answer that is complete."""
    [choice] = generation.choices
    if choice.stop_string is not None:
        return Stop("stop_sequence", choice.stop_string)
    return Stop(_STOP_REASONS[choice.finish_reason or "stop"], None)


def blocks_of(parts: Parts) -> list[Block]:
    """Of a whole answer."""
    thinking = [Thinking(parts.reasoning)] if parts.reasoning else []
    text = [Text(parts.content)] if parts.content else []
    return [*thinking, *text, *(ToolUse(call.id, call.name, _input(call)) for call in whole_calls(parts.tool_calls))]


def _input(call: ToolCall) -> dict[str, Any]:
    try:
        return msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {_INVALID_JSON: call.arguments}
