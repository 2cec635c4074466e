"""What has become of KV since the start, as plain numbers for whoever asks."""

from collections import Counter
from dataclasses import dataclass, field

SIDES = ("device", "host")


def _none() -> Counter[str]:
    return Counter(dict.fromkeys(SIDES, 0))


@dataclass(slots=True)
class KvCounts:
    copies: Counter[str] = field(default_factory=_none)  # by the side that they go to
    copied_bytes: Counter[str] = field(default_factory=_none)
    swaps: Counter[str] = field(default_factory=_none)
    num_queried_tokens: int = 0  # of prompts, looked up when their sequence came
    num_cached_tokens: int = 0  # and found
