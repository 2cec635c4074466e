"""What the bodies of both routes' responses have in common."""

from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from gateway.http.openai.fields import GenerateRequest
from gateway.output.choice import Delta
from gateway.output.generation import Generation

C = TypeVar("C", bound=msgspec.Struct)  # a choice
TokenIds = tuple[int, ...] | UnsetType  # only with return_token_ids
_encoder: Final = msgspec.json.Encoder()


class PromptTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET  # of a model that reasons


class Response(msgspec.Struct, Generic[C], frozen=True):
    id: str
    object: str
    created: int
    model: str
    choices: Sequence[C]
    usage: Usage | UnsetType | None = UNSET
    prompt_token_ids: TokenIds = UNSET  # of a chat; a completion has them in its choices


class Format(Protocol):
    """The bodies of one response."""

    def opening(self, generation: Generation) -> list[bytes]:
        """Chunks before the first delta."""

    def shows(self, delta: Delta) -> bool:
        """Whether the delta makes a chunk at all."""

    def chunks(self, delta: Delta, generation: Generation) -> list[bytes]: ...

    def usage(self, generation: Generation) -> bytes:
        """The last chunk, with stream_options.include_usage."""

    def whole(self, generation: Generation, parts: list[Delta]) -> bytes:
        """`parts` has one delta per choice, from its first to its last token."""


class Head:
    """What all bodies of a response repeat."""

    kind: str
    chunk_kind: str

    def __init__(self, call_id: str, created: int, asked: GenerateRequest) -> None:
        self._call_id = call_id
        self._created = created
        self._model = asked.model
        self._include_usage = asked.include_usage
        self._continuous_usage = asked.continuous_usage
        self._return_token_ids = bool(asked.return_token_ids)

    def shows(self, delta: Delta) -> bool:
        return bool(delta.text or delta.logprobs or delta.finish_reason or self._return_token_ids)

    def usage(self, generation: Generation) -> bytes:
        return self.encode(self.chunk_kind, [], usage_of(generation))

    def encode_chunk(
        self, choices: Sequence[msgspec.Struct], generation: Generation, prompt_token_ids: TokenIds = UNSET
    ) -> bytes:
        so_far = usage_of(generation) if self._continuous_usage else None
        return self.encode(self.chunk_kind, choices, so_far if self._include_usage else UNSET, prompt_token_ids)

    def encode(
        self,
        kind: str,
        choices: Sequence[msgspec.Struct],
        usage: Usage | UnsetType | None,
        prompt_token_ids: TokenIds = UNSET,
    ) -> bytes:
        return _encoder.encode(
            Response(self._call_id, kind, self._created, self._model, choices, usage, prompt_token_ids)
        )

    def shown(self, token_ids: tuple[int, ...]) -> TokenIds:
        return token_ids if self._return_token_ids else UNSET


def usage_of(generation: Generation) -> Usage:
    num_prompt, num_output = generation.num_prompt_tokens, generation.num_output_tokens
    cached = PromptTokensDetails(generation.num_cached_tokens)
    num_reasoning = generation.num_reasoning_tokens
    details = CompletionTokensDetails(num_reasoning) if num_reasoning else UNSET
    return Usage(num_prompt, num_output, num_prompt + num_output, cached, details)
