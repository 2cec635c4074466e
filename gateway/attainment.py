"""Which tokens are on time: judged when they are written, by the owner of their request.

Token k is on time when what carries it was written no later than arrival + ttft_s + k * tbt_s. Workers steer by the
same deadlines, but only the owner knows when the client's request came and when its tokens left.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shared.errors import ErrorCode, RequestError
from shared.ids import ModelName
from shared.slo import Slo

# Nothing was promised to a client that hears one of these before its first token.
REFUSALS: Final = frozenset(
    {
        ErrorCode.INVALID_REQUEST,
        ErrorCode.CONTEXT_LENGTH_EXCEEDED,
        ErrorCode.NO_CHAT_TEMPLATE,
        ErrorCode.MODEL_NOT_FOUND,
        ErrorCode.BODY_TOO_LARGE,
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        ErrorCode.CLIENT_TOO_SLOW,
        ErrorCode.INVALID_API_KEY,
        ErrorCode.PERMISSION_DENIED,
        ErrorCode.CONFLICT,
        ErrorCode.RATE_LIMITED,
        ErrorCode.OVERLOADED,
    }
)


@dataclass(slots=True)
class TokenCounts:
    num_due: int = 0  # on time or late: written, or overdue when their request ended without them
    num_on_time: int = 0

    @property
    def share(self) -> float | None:
        """The attainment; None while nothing was due."""
        return self.num_on_time / self.num_due if self.num_due else None


class Attainment:
    """Of each served model that somebody asked for, since this gateway started or the model came."""

    def __init__(self) -> None:
        self._counts: dict[ModelName, TokenCounts] = {}

    def of(self, model: ModelName) -> TokenCounts:
        return self._counts.setdefault(model, TokenCounts())

    def forget(self, model: ModelName) -> None:
        """It is served no more; sequences that still run count for nobody."""
        self._counts.pop(model, None)

    def __iter__(self) -> Iterator[tuple[ModelName, TokenCounts]]:
        return iter(self._counts.items())


class DeadlineMeter:
    """Judges the tokens of one sequence, each once and in their order."""

    def __init__(self, slo: Slo, arrived_at_s: float, of_model: TokenCounts) -> None:
        self._slo = slo
        self._arrived_at_s = arrived_at_s
        self._of_model = of_model
        self._counts = TokenCounts()

    @property
    def num_due(self) -> int:
        return self._counts.num_due

    @property
    def num_on_time(self) -> int:
        return self._counts.num_on_time

    def written(self, num_tokens: int, now_s: float) -> None:
        """All up to the first `num_tokens` are out now."""
        self._judge(num_tokens, self._num_overdue(now_s))

    def ended(self, max_tokens: int, now_s: float, error: RequestError | None) -> None:
        """No more will be written. What is overdue and might have come, `max_tokens` at most, is late; what is not due
        yet was never owed."""
        if error and error.code in REFUSALS and not self.num_due:
            return
        num_overdue = self._num_overdue(now_s)
        self._judge(min(num_overdue, max_tokens), num_overdue)

    def _num_overdue(self, now_s: float) -> int:
        return self._slo.num_overdue(now_s - self._arrived_at_s)

    def _judge(self, num_tokens: int, num_overdue: int) -> None:
        first = self.num_due
        if num_tokens <= first:
            return
        num_on_time = max(0, num_tokens - max(first, num_overdue))
        for counts in (self._counts, self._of_model):
            counts.num_due += num_tokens - first
            counts.num_on_time += num_on_time
