"""POST /v1/completions: the response."""

import msgspec
from msgspec import UNSET

from gateway.choice import Delta, FinishReason
from gateway.http.openai.response import Head, TokenIds, usage_of
from gateway.pipeline import Generation


class TextChoice(msgspec.Struct, frozen=True):
    index: int
    text: str
    finish_reason: FinishReason | None = None
    logprobs: None = None
    token_ids: TokenIds = UNSET
    prompt_token_ids: TokenIds = UNSET


class TextFormat(Head):
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
        prompt = self.shown(generation.choices[delta.index].prompt) if is_first else UNSET
        return self.encode_chunk([self._choice(delta, prompt)])

    def whole(self, generation: Generation, parts: list[Delta]) -> bytes:
        choices = [self._choice(part, self.shown(generation.choices[part.index].prompt)) for part in parts]
        return self.encode(self.kind, choices, usage_of(generation))

    def _choice(self, delta: Delta, prompt: TokenIds) -> TextChoice:
        token_ids = self.shown(delta.token_ids)
        return TextChoice(delta.index, delta.text, delta.finish_reason, token_ids=token_ids, prompt_token_ids=prompt)
