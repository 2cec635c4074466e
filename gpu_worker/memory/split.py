"""Where the boundary between weights and KV may lie in a device's memory, and when it moves. By whole slabs:

    [ weights, from the low end ->      |      <- KV slabs, from the high end ]
                       ^ least weights  ^ boundary        ^ least KV

KV gives slabs only while it stays comfortable, and takes them only when it is full: between the two nothing moves, so
the boundary does not flip to and fro.
"""

from dataclasses import dataclass
from typing import Final

COMFORTABLE: Final = 3 / 4  # of what KV would have left, in use by sequences at most


@dataclass(frozen=True, slots=True)
class SplitLimits:
    least_kv_slabs: int  # KV can always have them: what one sequence may need is promised by them
    most_kv_slabs: int


@dataclass(frozen=True, slots=True)
class KvUse:
    num_slabs: int  # on KV's side
    slab_bytes: int
    used_bytes: int  # by sequences


def may_lend(limits: SplitLimits, kv: KvUse, num_slabs: int, *, must: bool) -> bool:
    """Whether KV gives so many slabs for weights. must: else the weights could never be placed."""
    num_left = kv.num_slabs - num_slabs
    if num_left < limits.least_kv_slabs:
        return False
    return must or kv.used_bytes <= COMFORTABLE * num_left * kv.slab_bytes


def may_take_back(limits: SplitLimits, kv: KvUse, num_slabs: int) -> bool:
    """Whether KV gets so many slabs that no weights with work lie in."""
    return kv.num_slabs + num_slabs <= limits.most_kv_slabs
