"""POST /v1/chat/completions: the response."""

import msgspec
from msgspec import UNSET, UnsetType

from gateway.choice import Delta, FinishReason
from gateway.http.openai.logprobs import ChatLogprobs, chat_logprobs
from gateway.http.openai.response import Head, TokenIds, usage_of
from gateway.pipeline import Generation


class ChatDelta(msgspec.Struct, frozen=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, frozen=True):
    index: int
    delta: ChatDelta
    finish_reason: FinishReason | None = None
    logprobs: ChatLogprobs | None = None
    token_ids: TokenIds = UNSET


class AssistantMessage(msgspec.Struct, frozen=True):
    content: str
    role: str = "assistant"
    refusal: None = None


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

    def chunk(self, delta: Delta, generation: Generation) -> bytes:
        content = ChatDelta(content=delta.text) if delta.text else ChatDelta()
        logprobs = chat_logprobs(delta.logprobs, generation.vocabulary)
        token_ids = self.shown(delta.token_ids)
        choice = ChatChunkChoice(delta.index, content, delta.finish_reason, logprobs, token_ids)
        return self.encode_chunk([choice], generation)

    def whole(self, generation: Generation, parts: list[Delta]) -> bytes:
        choices = [
            ChatChoice(
                part.index,
                AssistantMessage(part.text),
                part.finish_reason or "stop",
                chat_logprobs(part.logprobs, generation.vocabulary),
                token_ids=self.shown(part.token_ids),
            )
            for part in parts
        ]
        prompt = self.shown(generation.choices[0].prompt)
        return self.encode(self.kind, choices, usage_of(generation), prompt)
