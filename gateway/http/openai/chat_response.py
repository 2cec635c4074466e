"""POST /v1/chat/completions: the response."""

from collections.abc import Iterator

import msgspec
from msgspec import UNSET, UnsetType

from gateway.http.openai.logprobs import ChatLogprobs, chat_logprobs
from gateway.http.openai.response import Head, TokenIds, usage_of
from gateway.output.answer import whole_calls
from gateway.output.choice import Delta, FinishReason
from gateway.output.generation import Generation
from shared.messages import ToolCallPiece

Text = str | UnsetType  # left out where there is none


class FunctionDelta(msgspec.Struct, frozen=True):
    name: Text = UNSET
    arguments: str = ""


class ToolCallDelta(msgspec.Struct, frozen=True):
    index: int
    id: Text = UNSET
    type: Text = UNSET
    function: FunctionDelta = FunctionDelta()


class ChatDelta(msgspec.Struct, frozen=True, kw_only=True):
    role: Text = UNSET
    content: Text = UNSET
    reasoning: Text = UNSET
    reasoning_content: Text = UNSET  # the same, by its former name
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, frozen=True):
    index: int
    delta: ChatDelta
    finish_reason: FinishReason | None = None
    logprobs: ChatLogprobs | None = None
    token_ids: TokenIds = UNSET


class Function(msgspec.Struct, frozen=True):
    name: str
    arguments: str  # JSON, as the model wrote it


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    function: Function
    type: str = "function"


class AssistantMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: str = "assistant"
    content: str | None
    refusal: None = None
    reasoning: Text = UNSET
    reasoning_content: Text = UNSET  # the same, by its former name
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChatChoice(msgspec.Struct, frozen=True):
    index: int
    message: AssistantMessage
    finish_reason: FinishReason
    logprobs: ChatLogprobs | None = None
    token_ids: TokenIds = UNSET


class ChatFormat(Head):
    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"

    def opening(self, generation: Generation) -> list[bytes]:
        role = ChatDelta(role="assistant", content="")
        choices = [ChatChunkChoice(choice.index, role) for choice in generation.choices]
        return [self.encode_chunk(choices, generation, self.shown(generation.choices[0].prompt))]

    def shows(self, delta: Delta) -> bool:
        return bool(delta.reasoning or delta.tool_calls) or super().shows(delta)

    def chunks(self, delta: Delta, generation: Generation) -> list[bytes]:
        """A call's head and its arguments come apart, as OpenAI sends them."""
        *before, last = _deltas(delta)
        logprobs = chat_logprobs(delta.logprobs, generation.vocabulary)
        choices = [ChatChunkChoice(delta.index, each) for each in before]
        choices.append(ChatChunkChoice(delta.index, last, delta.finish_reason, logprobs, self.shown(delta.token_ids)))
        return [self.encode_chunk([choice], generation) for choice in choices]

    def whole(self, generation: Generation, parts: list[Delta]) -> bytes:
        choices = [
            ChatChoice(
                part.index,
                _message(part),
                part.finish_reason or "stop",
                chat_logprobs(part.logprobs, generation.vocabulary),
                token_ids=self.shown(part.token_ids),
            )
            for part in parts
        ]
        prompt = self.shown(generation.choices[0].prompt)
        return self.encode(self.kind, choices, usage_of(generation), prompt)


def _deltas(delta: Delta) -> Iterator[ChatDelta]:
    """At least one."""
    if delta.text or delta.reasoning or not delta.tool_calls:
        reasoning = delta.reasoning or UNSET
        yield ChatDelta(content=delta.text or UNSET, reasoning=reasoning, reasoning_content=reasoning)
    for piece in delta.tool_calls:
        yield ChatDelta(tool_calls=[_call_delta(piece)])


def _call_delta(piece: ToolCallPiece) -> ToolCallDelta:
    if not piece.id:
        return ToolCallDelta(piece.index, function=FunctionDelta(arguments=piece.arguments))
    return ToolCallDelta(piece.index, piece.id, "function", FunctionDelta(piece.name, piece.arguments))


def _message(whole: Delta) -> AssistantMessage:
    calls = [ToolCall(call.id, Function(call.name, call.arguments)) for call in whole_calls(whole.tool_calls)]
    reasoning = whole.reasoning or UNSET
    return AssistantMessage(
        content=whole.text or (None if calls or whole.reasoning else ""),
        reasoning=reasoning,
        reasoning_content=reasoning,
        tool_calls=calls or UNSET,
    )
