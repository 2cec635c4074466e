"""What requests of both routes have in common. Fields that nobody here knows are ignored.

Sources: platform.openai.com/docs/api-reference (chat/create, completions/create); vLLM for top_k, min_p, min_tokens,
ignore_eos, repetition_penalty and return_token_ids.
"""

import msgspec

from gateway.params import invalid
from shared.messages import GenerationParams


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    type: str = "text"


class GenerateRequest(GenerationParams, frozen=True, kw_only=True):
    """What both routes have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None
    # not supported yet, unless they ask for nothing
    n: int | None = None
    logit_bias: dict[str, float] | None = None
    response_format: ResponseFormat | None = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def check_supported(self) -> None:
        """Raises RequestError naming the first field that asks for what is not there."""
        supported("n", self.n in (None, 1))
        supported("logit_bias", not self.logit_bias)
        supported("response_format", self.response_format is None or self.response_format.type == "text")
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options is only allowed when stream is true.", "stream_options")

    def params(self, max_tokens: int | None) -> GenerationParams:
        given = {name: getattr(self, name) for name in GenerationParams.__struct_fields__}
        return GenerationParams(**{**given, "max_tokens": max_tokens})


def supported(name: str, issupported: bool) -> None:
    if not issupported:
        raise invalid(f"{name} is not supported yet.", name)
