"""Which slab of a pool to empty by moving its blocks to others of its class, and when that is worth it.

A slab that is partly used is idle memory that no other class can have. Moves cost bytes, so the slab that costs the
fewest goes first, and only while whole slabs are short:

    class a  [x . . .)  [x x x .)  [x x . x)        [. . . .)  [x x x x)  [x x . x)
              ^ the emptiest moves into the fullest   ^ free for any class
"""

from collections.abc import Iterable
from typing import Final

from gpu_worker.memory.slab_pool import PoolStats, SparseSlab

ENOUGH_FREE: Final = 1 / 4  # of the pool in free slabs: with more, nothing moves
LEAST_IDLE: Final = 1 / 64  # of the pool, inside taken slabs: with less, there is nothing to gain
RESERVE: Final = 1 / 4  # of a slab, that a class keeps free in its others: it does not take the slab back at once
MOST_USED: Final = 3 / 4  # of a slab: emptying a fuller one costs more than it gives


def choose_slab(stats: PoolStats, candidates: Iterable[SparseSlab]) -> SparseSlab | None:
    """The slab to empty next: of those whose blocks fit beside, the one with the fewest bytes in use."""
    idle_bytes = stats.held_bytes - stats.used_bytes
    if stats.num_free_slabs >= ENOUGH_FREE * stats.num_slabs or idle_bytes < LEAST_IDLE * stats.total_bytes:
        return None
    return min(filter(is_worth_it, candidates), key=lambda slab: slab.num_used * slab.shape.block_bytes, default=None)


def is_worth_it(slab: SparseSlab) -> bool:
    reserve = RESERVE * slab.shape.blocks_per_slab
    return (
        slab.num_used <= MOST_USED * slab.shape.blocks_per_slab and slab.num_used + reserve <= slab.num_free_elsewhere
    )


def num_blocks_to_move(slab: SparseSlab, most_bytes: int) -> int:
    """At least one, or nothing would ever move."""
    return min(slab.num_used, max(1, most_bytes // slab.shape.block_bytes))
