"""POST /v1/completions: the response."""

import msgspec
from msgspec import UNSET, UnsetType

from gateway.http.openai.completions import CompletionRequest
from gateway.http.openai.logprobs import PromptLogprobs, TextLog, TextLogprobs, joined, prompt_logprobs
from gateway.http.openai.response import Head, TokenIds, usage_of
from gateway.output.choice import Delta, FinishReason
from gateway.output.detokenize import NUM_CONTEXT_TOKENS
from gateway.output.generation import Generation
from gateway.request.prompts import Text


class TextChoice(msgspec.Struct, frozen=True):
    index: int
    text: str
    finish_reason: FinishReason | None = None
    logprobs: TextLogprobs | None = None
    token_ids: TokenIds = UNSET
    prompt_token_ids: TokenIds = UNSET
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET  # only where they are asked for by this name


class TextFormat(Head):
    kind = "text_completion"
    chunk_kind = "text_completion"

    def __init__(self, call_id: str, created: int, asked: CompletionRequest) -> None:
        super().__init__(call_id, created, asked)
        self._echo = bool(asked.echo)
        self._has_logprobs = asked.logprobs is not None
        self._has_prompt_logprobs = asked.prompt_logprobs is not None
        self._logs: dict[int, TextLog] = {}  # of the choices that have begun

    def opening(self, generation: Generation) -> list[bytes]:
        return []

    def chunks(self, delta: Delta, generation: Generation) -> list[bytes]:
        return [self.encode_chunk([self._choice(delta, generation)], generation)]

    def whole(self, generation: Generation, parts: list[Delta]) -> bytes:
        return self.encode(self.kind, [self._choice(part, generation) for part in parts], usage_of(generation))

    def _choice(self, delta: Delta, generation: Generation) -> TextChoice:
        """With a choice's first delta goes what is said of its prompt."""
        choice = generation.choices[delta.index]
        text = delta.text
        prompt_token_ids: TokenIds = UNSET
        logprobs: TextLogprobs | None = None
        is_first = delta.index not in self._logs
        if is_first:
            echo = self._echoed(delta.index, generation)
            context = () if self._echo else choice.prompt[-NUM_CONTEXT_TOKENS:]
            self._logs[delta.index] = TextLog(generation.vocabulary, context, echo)
            text, prompt_token_ids = echo + text, self.shown(choice.prompt)
        if self._has_logprobs:
            log = self._logs[delta.index]
            prompt = log.echoed(choice.prompt, choice.prompt_logprobs) if is_first and self._echo else None
            logprobs = joined(prompt, log.written(delta.logprobs))
        token_ids = self.shown(delta.token_ids)
        scores: PromptLogprobs | UnsetType = UNSET
        if self._has_prompt_logprobs:  # then nothing is streamed
            scores = prompt_logprobs(choice.prompt_logprobs, generation.vocabulary)
        return TextChoice(delta.index, text, delta.finish_reason, logprobs, token_ids, prompt_token_ids, scores)

    def _echoed(self, choice: int, generation: Generation) -> str:
        if not self._echo:
            return ""
        prompt = generation.prompt_of(choice)
        if isinstance(prompt, Text):
            return prompt.text
        return generation.vocabulary.decode(generation.choices[choice].prompt)
