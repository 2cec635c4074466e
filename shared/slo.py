"""Service levels: when each token of a request is due, and who is served first."""

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

DEFAULT_TTFT_S: Final = 10.0
DEFAULT_TBT_S: Final = 0.1
MIN_S: Final = 1e-6
MAX_TTFT_S: Final = 86_400.0
MAX_TBT_S: Final = 3_600.0
MAX_TIMEOUT_S: Final = 86_400.0
MAX_PRIORITY: Final = 1000

TtftSeconds = Annotated[float, Meta(ge=MIN_S, le=MAX_TTFT_S)]
TbtSeconds = Annotated[float, Meta(ge=MIN_S, le=MAX_TBT_S)]
Priority = Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)]  # lower is served first


class Slo(msgspec.Struct, frozen=True, array_like=True):
    """Token k = 0, 1, ... is due `ttft_s + k * tbt_s` after the request arrived (Aegaeon, SOSP 2025, section 2)."""

    ttft_s: TtftSeconds = DEFAULT_TTFT_S
    tbt_s: TbtSeconds = DEFAULT_TBT_S

    def due_s(self, index: int) -> float:
        """Seconds from the request's arrival."""
        return self.ttft_s + index * self.tbt_s

    def num_overdue(self, age_s: float) -> int:
        """Tokens that come too late `age_s` after the request arrived: those with due_s(index) < age_s."""
        if age_s <= self.ttft_s:
            return 0
        num = math.ceil((age_s - self.ttft_s) / self.tbt_s)
        # The division rounds otherwise than due_s does.
        while num > 0 and self.due_s(num - 1) >= age_s:
            num -= 1
        while self.due_s(num) < age_s:
            num += 1
        return num


class ServiceLevel(msgspec.Struct, frozen=True):
    """What a request is promised, and how urgent it is."""

    slo: Slo = Slo()
    priority: int = 0  # lower is served first
