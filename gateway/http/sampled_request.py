"""What requests of the APIs beside OpenAI's older ones have in common."""

import msgspec

from shared.messages import GenerationParams
from shared.structured import ResponseFormat


class SampledRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of one name and meaning in every API."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    ttft_s: float | None = None
    tbt_s: float | None = None
    timeout_s: float | None = None
    priority: int | None = None

    def params(
        self,
        max_tokens: int | None,
        response_format: ResponseFormat | None,
        stop: list[str] | None = None,
    ) -> GenerationParams:
        given = {name: getattr(self, name) for name in SampledRequest.__struct_fields__}
        return GenerationParams(max_tokens=max_tokens, response_format=response_format, stop=stop, **given)
