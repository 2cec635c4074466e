"""What requests of both routes have in common. Fields that nobody here knows are ignored.

Sources: platform.openai.com/docs/api-reference (chat/create, completions/create); vLLM for top_k, min_p, min_tokens,
ignore_eos, repetition_penalty, stop_token_ids, include_stop_str_in_output, continuous_usage_stats and return_token_ids.
"""

import msgspec

from gateway.http.openai.structured import GuidedParams
from gateway.request.params import invalid
from shared.messages import GenerationParams


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerateRequest(GuidedParams, frozen=True, kw_only=True):
    """What both routes have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None
    # accepted, and of no effect
    user: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    store: bool | None = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        """Usage so far in each chunk, as vLLM has it: only with include_usage."""
        return self.include_usage and bool(self.stream_options and self.stream_options.continuous_usage_stats)

    def check_supported(self) -> None:
        """Raises RequestError naming the first field that asks for what is not there."""
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options is only allowed when stream is true.", "stream_options")

    def params(self, max_tokens: int | None) -> GenerationParams:
        given = {name: getattr(self, name) for name in GenerationParams.__struct_fields__}
        changed = {"max_tokens": max_tokens, "structured_outputs": self.structured()}
        return GenerationParams(**{**given, **changed})


def supported(name: str, issupported: bool) -> None:
    if not issupported:
        raise invalid(f"{name} is not supported yet.", name)
