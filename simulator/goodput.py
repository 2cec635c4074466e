"""The highest load with at least 90 % of the tokens on time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from simulator.policies import simulate_policy
from simulator.run import Window
from simulator.setup import Setup

GOAL: Final = 0.90
_MIN_RATE: Final = 0.5  # below it a window has few requests


@dataclass(frozen=True, slots=True)
class Goodput:
    requests_per_s: float  # 0: at no rate that was tried
    points: Sequence[tuple[float, float]]  # rate and share on time of all that was tried, ascending


def find_goodput(
    policy: str, setup: Setup, window: Window, seeds: Sequence[int], first_rate: float = 20.0, precision: float = 0.02
) -> Goodput:
    return bisect_rate(lambda rate: mean_share(policy, setup, rate, window, seeds), first_rate, precision)


def mean_share(policy: str, setup: Setup, requests_per_s: float, window: Window, seeds: Sequence[int]) -> float:
    """Of the tokens of all seeds' runs, those on time."""
    outcomes = [simulate_policy(policy, setup, requests_per_s, window, seed).attainment for seed in seeds]
    num_tokens = sum(outcome.num_tokens for outcome in outcomes)
    return sum(o.share * o.num_tokens for o in outcomes) / num_tokens if num_tokens else 1.0


def bisect_rate(share: Callable[[float], float], first_rate: float, precision: float) -> Goodput:
    """precision: of the rate. Takes it that attainment falls as the rate rises."""
    points: dict[float, float] = {}

    def meets(rate: float) -> bool:
        points[rate] = share(rate)
        return points[rate] >= GOAL

    good, bad = 0.0, first_rate
    while meets(bad):
        good, bad = bad, bad * 2
    while good == 0 and bad > _MIN_RATE:
        if meets(bad / 2):
            good = bad / 2
        else:
            bad /= 2
    while good > 0 and bad / good > 1 + precision:
        middle = (good * bad) ** 0.5
        good, bad = (middle, bad) if meets(middle) else (good, middle)
    return Goodput(good, sorted(points.items()))
