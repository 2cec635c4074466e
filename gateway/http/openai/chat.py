"""POST /v1/chat/completions: the request."""

from typing import Final

import msgspec
from msgspec.structs import replace

from gateway.http.openai.fields import GenerateRequest, supported
from gateway.params import MAX_LOGPROBS, invalid
from gateway.pipeline import Call
from gateway.prompts import Chat
from shared.ids import ModelName
from shared.messages import ChatMessage, GenerationParams


class ContentPart(msgspec.Struct, frozen=True):
    type: str
    text: str | None = None


class RequestMessage(msgspec.Struct, frozen=True):
    role: str
    content: str | list[ContentPart] | None = None


class ChatRequest(GenerateRequest, frozen=True, kw_only=True):
    messages: list[RequestMessage]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    # not supported yet, unless they ask for nothing
    tools: list[msgspec.Raw] | None = None
    functions: list[msgspec.Raw] | None = None

    def check_supported(self) -> None:
        super().check_supported()
        supported("tools", not self.tools)
        supported("functions", not self.functions)

    def params(self, max_tokens: int | None) -> GenerationParams:
        """Raises RequestError."""
        num_top = self.top_logprobs or 0
        if not 0 <= num_top <= MAX_LOGPROBS:
            raise invalid(f"top_logprobs must be an integer from 0 to {MAX_LOGPROBS}.", "top_logprobs")
        if num_top and not self.logprobs:
            raise invalid("top_logprobs is only allowed when logprobs is true.", "top_logprobs")
        return replace(super().params(max_tokens), logprobs=num_top if self.logprobs else None)

    def call(self, call_id: str, arrived_at_s: float) -> Call:
        """Raises RequestError."""
        self.check_supported()
        max_tokens = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return Call(call_id, ModelName(self.model), (chat_of(self.messages),), self.params(max_tokens), arrived_at_s)


chat_decoder: Final = msgspec.json.Decoder(ChatRequest)


def chat_of(messages: list[RequestMessage]) -> Chat:
    """Raises RequestError."""
    if not messages:
        raise invalid("messages must not be empty.", "messages")
    return Chat(tuple(ChatMessage(message.role, _content(message, index)) for index, message in enumerate(messages)))


def _content(message: RequestMessage, index: int) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    for part in message.content:
        if part.type != "text" or part.text is None:
            raise invalid("Only content parts of type text are supported.", f"messages[{index}].content")
    return "\n".join(part.text or "" for part in message.content)
