"""Service levels: when each token of a request is due."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

DEFAULT_TTFT_S: Final = 10.0
DEFAULT_TBT_S: Final = 0.1


class Slo(msgspec.Struct, frozen=True, array_like=True):
    """Token k = 0, 1, ... is due `ttft_s + k * tbt_s` after the request arrived (Aegaeon, SOSP 2025, section 2)."""

    ttft_s: Annotated[float, Meta(gt=0, le=86_400)] = DEFAULT_TTFT_S
    tbt_s: Annotated[float, Meta(gt=0, le=3_600)] = DEFAULT_TBT_S

    def due_s(self, index: int) -> float:
        """Seconds from the request's arrival."""
        return self.ttft_s + index * self.tbt_s
