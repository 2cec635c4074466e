"""OpenAI's response bodies. One format per route: how deltas and whole generations look there."""

from typing import Final, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from gateway.choice import Delta, FinishReason
from gateway.pipeline import Generation

TokenIds = tuple[int, ...] | UnsetType  # only with return_token_ids
_encoder: Final = msgspec.json.Encoder()


class PromptTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ChatDelta(msgspec.Struct, frozen=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, frozen=True):
    index: int
    delta: ChatDelta
    finish_reason: FinishReason | None = None
    logprobs: None = None
    token_ids: TokenIds = UNSET


class AssistantMessage(msgspec.Struct, frozen=True):
    content: str
    role: str = "assistant"
    refusal: None = None


class ChatChoice(msgspec.Struct, frozen=True):
    index: int
    message: AssistantMessage
    finish_reason: FinishReason
    logprobs: None = None
    token_ids: TokenIds = UNSET


class TextChoice(msgspec.Struct, frozen=True):
    index: int
    text: str
    finish_reason: FinishReason | None = None
    logprobs: None = None
    token_ids: TokenIds = UNSET
    prompt_token_ids: TokenIds = UNSET


class Response(msgspec.Struct, frozen=True):
    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChunkChoice] | list[ChatChoice] | list[TextChoice]
    usage: Usage | UnsetType | None = UNSET
    prompt_token_ids: TokenIds = UNSET  # of a chat; a completion has them in its choices


class Format(Protocol):
    """The bodies of one response."""

    def opening(self, generation: Generation) -> list[bytes]:
        """Chunks before the first delta."""

    def shows(self, delta: Delta) -> bool:
        """Whether the delta makes a chunk at all."""

    def chunk(self, delta: Delta, generation: Generation) -> bytes: ...

    def usage(self, generation: Generation) -> bytes:
        """The last chunk, with stream_options.include_usage."""

    def whole(self, generation: Generation, parts: list[Delta]) -> bytes:
        """`parts` has one delta per choice, from its first to its last token."""


class _Head:
    """What all bodies of a response repeat."""

    kind: str
    chunk_kind: str

    def __init__(self, call_id: str, created: int, model: str, include_usage: bool, return_token_ids: bool) -> None:
        self._call_id = call_id
        self._created = created
        self._model = model
        self._include_usage = include_usage
        self._return_token_ids = return_token_ids

    def shows(self, delta: Delta) -> bool:
        return bool(delta.text or delta.finish_reason or self._return_token_ids)

    def usage(self, generation: Generation) -> bytes:
        return self._encode(self.chunk_kind, [], usage_of(generation))

    def _encode_chunk(
        self, choices: list[ChatChunkChoice] | list[TextChoice], prompt_token_ids: TokenIds = UNSET
    ) -> bytes:
        return self._encode(self.chunk_kind, choices, None if self._include_usage else UNSET, prompt_token_ids)

    def _encode(
        self,
        kind: str,
        choices: list[ChatChunkChoice] | list[ChatChoice] | list[TextChoice],
        usage: Usage | UnsetType | None,
        prompt_token_ids: TokenIds = UNSET,
    ) -> bytes:
        return _encoder.encode(
            Response(self._call_id, kind, self._created, self._model, choices, usage, prompt_token_ids)
        )

    def _shown(self, token_ids: tuple[int, ...]) -> TokenIds:
        return token_ids if self._return_token_ids else UNSET


class ChatFormat(_Head):
    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"

    def opening(self, generation: Generation) -> list[bytes]:
        role = ChatDelta(role="assistant", content="")
        choices = [ChatChunkChoice(choice.index, role) for choice in generation.choices]
        return [self._encode_chunk(choices, self._shown(generation.choices[0].prompt))]

    def chunk(self, delta: Delta, generation: Generation) -> bytes:
        content = ChatDelta(content=delta.text) if delta.text else ChatDelta()
        choice = ChatChunkChoice(delta.index, content, delta.finish_reason, token_ids=self._shown(delta.token_ids))
        return self._encode_chunk([choice])

    def whole(self, generation: Generation, parts: list[Delta]) -> bytes:
        choices = [
            ChatChoice(
                part.index,
                AssistantMessage(part.text),
                part.finish_reason or "stop",
                token_ids=self._shown(part.token_ids),
            )
            for part in parts
        ]
        prompt = self._shown(generation.choices[0].prompt)
        return self._encode(self.kind, choices, usage_of(generation), prompt)


class TextFormat(_Head):
    kind = "text_completion"
    chunk_kind = "text_completion"

    def __init__(self, call_id: str, created: int, model: str, include_usage: bool, return_token_ids: bool) -> None:
        super().__init__(call_id, created, model, include_usage, return_token_ids)
        self._opened: set[int] = set()  # choices whose first chunk is out, with their prompts' tokens

    def opening(self, generation: Generation) -> list[bytes]:
        return []

    def chunk(self, delta: Delta, generation: Generation) -> bytes:
        is_first = delta.index not in self._opened
        self._opened.add(delta.index)
        prompt = self._shown(generation.choices[delta.index].prompt) if is_first else UNSET
        return self._encode_chunk([self._choice(delta, prompt)])

    def whole(self, generation: Generation, parts: list[Delta]) -> bytes:
        choices = [self._choice(part, self._shown(generation.choices[part.index].prompt)) for part in parts]
        return self._encode(self.kind, choices, usage_of(generation))

    def _choice(self, delta: Delta, prompt: TokenIds) -> TextChoice:
        token_ids = self._shown(delta.token_ids)
        return TextChoice(delta.index, delta.text, delta.finish_reason, token_ids=token_ids, prompt_token_ids=prompt)


def usage_of(generation: Generation) -> Usage:
    num_prompt, num_output = generation.num_prompt_tokens, generation.num_output_tokens
    cached = PromptTokensDetails(generation.num_cached_tokens)
    return Usage(num_prompt, num_output, num_prompt + num_output, cached)
