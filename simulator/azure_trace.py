"""Lengths of real requests: quantiles of the Azure Public Dataset's LLM inference traces of 2023 (CC-BY 4.0).

AzureLLMInferenceTrace_conv has 19,366 requests of chats, AzureLLMInferenceTrace_code 8,819 of code completion. Within
each, prompt and output are nearly uncorrelated (-0.11 and 0.00), so they are drawn independently.
"""

import random
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final, Literal

Trace = Literal["conv", "code", "both"]

_SHARES: Final = (*(i / 20 for i in range(20)), 0.98, 0.99, 0.999, 1.0)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of a number of tokens, at `_SHARES`; in between it is linear."""

    values: tuple[int, ...]

    def draw(self, rng: random.Random) -> float:
        position = rng.random()
        low = bisect_right(_SHARES, position) - 1
        part = (position - _SHARES[low]) / (_SHARES[low + 1] - _SHARES[low])
        return self.values[low] + part * (self.values[low + 1] - self.values[low])


@dataclass(frozen=True, slots=True)
class TraceLengths:
    num_requests: int
    prompt: Quantiles
    output: Quantiles


CONV: Final = TraceLengths(
    19_366,
    Quantiles(
        (2, 181, 207, 372, 387, 396, 403, 414, 703, 984, 1020, 1045, 1071, 1097, 1130, 1189, 1315, 1877, 2735, 4083,
         4098, 4142, 6212, 14050)
    ),
    Quantiles(
        (7, 41, 54, 67, 77, 85, 91, 96, 103, 113, 129, 151, 177, 217, 384, 395, 400, 411, 424, 451,
         540, 601, 954, 1000)
    ),
)  # fmt: skip
CODE: Final = TraceLengths(
    8_819,
    Quantiles(
        (3, 75, 147, 232, 385, 578, 770, 938, 1075, 1261, 1469, 1690, 1909, 2164, 2433, 2745, 3193, 3923, 5194, 7315,
         7436, 7436, 7437, 7437)
    ),
    Quantiles(
        (6, 6, 7, 7, 8, 9, 9, 10, 11, 12, 13, 14, 16, 18, 20, 24, 29, 39, 55, 90,
         172, 252, 831, 1899)
    ),
)  # fmt: skip


def draw_lengths(rng: random.Random, trace: Trace, divisor: float) -> tuple[int, int]:
    """Tokens of a prompt and of its output, at least 1 each; "both": each trace has its share of the requests."""
    conv_share = {"conv": 1.0, "code": 0.0, "both": CONV.num_requests / (CONV.num_requests + CODE.num_requests)}
    lengths = CONV if rng.random() < conv_share[trace] else CODE
    prompt, output = lengths.prompt.draw(rng), lengths.output.draw(rng)
    return max(1, round(prompt / divisor)), max(1, round(output / divisor))
