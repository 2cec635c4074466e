"""POST /v1/completions: the request."""

from typing import Final

import msgspec
from msgspec.structs import replace

from gateway.http.openai.fields import GenerateRequest, supported
from gateway.request.call import Call
from gateway.request.params import invalid
from gateway.request.prompts import Prompt, Text, Tokens
from shared.ids import ModelName
from shared.messages import GenerationParams


class CompletionRequest(GenerateRequest, frozen=True, kw_only=True):
    prompt: str | list[int | str | list[int]]
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None  # not supported

    def check_supported(self) -> None:
        super().check_supported()
        supported("suffix", not self.suffix)
        if self.best_of is not None and self.best_of != (1 if self.n is None else self.n):
            raise invalid("best_of must be equal to n: whatever is generated is returned.", "best_of")
        if self.prompt_logprobs is not None:
            self._check_prompt_logprobs()

    def _check_prompt_logprobs(self) -> None:
        """Raises RequestError."""
        if self.stream:
            raise invalid("prompt_logprobs is only allowed when stream is false.", "prompt_logprobs")
        if self.echo and self.logprobs not in (None, self.prompt_logprobs):
            raise invalid("With echo, prompt_logprobs must be equal to logprobs, or absent.", "prompt_logprobs")

    def params(self, max_tokens: int | None) -> GenerationParams:
        """With echo the log-probabilities are those of the prompt, too."""
        params = super().params(max_tokens)
        return replace(params, prompt_logprobs=self.logprobs) if self.echo and self.prompt_logprobs is None else params

    def call(self, call_id: str, arrived_at_s: float) -> Call:
        """Raises RequestError."""
        self.check_supported()
        return Call(call_id, ModelName(self.model), _prompts(self.prompt), self.params(self.max_tokens), arrived_at_s)


completion_decoder: Final = msgspec.json.Decoder(CompletionRequest)


def _prompts(prompt: str | list[int | str | list[int]]) -> tuple[Prompt, ...]:
    """A text, token ids, or a list of either."""
    if isinstance(prompt, str):
        return (Text(prompt),)
    if not prompt:
        raise invalid("The prompt is empty.", "prompt")
    if isinstance(prompt[0], int):
        return (_tokens(prompt),)
    return tuple(Text(item) if isinstance(item, str) else _tokens(item) for item in prompt)


def _tokens(items: int | list[int] | list[int | str | list[int]]) -> Tokens:
    token_ids = tuple(item for item in items if isinstance(item, int)) if isinstance(items, list) else ()
    if not isinstance(items, list) or len(token_ids) != len(items):
        raise invalid("prompt must be a text, a list of token ids, or a list of either.", "prompt")
    return Tokens(token_ids)
