"""How long each batch of a round may decode: the formulas of Aegaeon (SOSP 2025, section 4), as published.

With d the time between tokens that batch i aims at and t_i its step's time, it produces n_i = d / t_i tokens while one
is due. c is the time of a round's switches, S = sum(1 / n_i) the share of the time that the tokens of all need:

    alpha = max(c / (Qmax * min n) + S, 0.5)        q_i = c / (n_i * (alpha - S))
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

MAX_QUOTA_S: Final = 4.0  # Qmax
_MIN_ALPHA: Final = 0.5
_VANISHES: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Pace:
    """Of one batch."""

    tbt_s: float  # d: from one token's due time to the next one's
    step_s: float  # t: of one decode step

    @property
    def num_ahead(self) -> float:
        """n: tokens in the time in which one is due."""
        return self.tbt_s / self.step_s


def alpha(paces: Sequence[Pace], switches_s: float, max_quota_s: float = MAX_QUOTA_S) -> float:
    """Round length over what the round's tokens are worth in due times: above 1, tokens will be late."""
    slowest = min(pace.num_ahead for pace in paces)
    return max(switches_s / (max_quota_s * slowest) + _needed_share(paces), _MIN_ALPHA)


def quotas_s(
    paces: Sequence[Pace], switches_s: float, alpha: float, max_quota_s: float = MAX_QUOTA_S
) -> tuple[float, ...]:
    """Seconds of decoding for each batch: at least a step, else at most `max_quota_s`.

    Without switches, and where alpha leaves no time for them, as in the limit: the slowest batch has `max_quota_s`.
    """
    slowest = min(pace.num_ahead for pace in paces)
    left = alpha - _needed_share(paces)
    is_limit = switches_s <= 0 or left <= _VANISHES
    scale = max_quota_s * slowest if is_limit else switches_s / left
    return tuple(max(min(scale / pace.num_ahead, max_quota_s), pace.step_s) for pace in paces)


def predicted_attainment(alpha: float) -> float:
    """Share of tokens that will be on time."""
    return min(1.0, 1.0 / alpha)


def _needed_share(paces: Iterable[Pace]) -> float:
    return sum(1.0 / pace.num_ahead for pace in paces)
