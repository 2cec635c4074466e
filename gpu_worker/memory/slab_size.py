"""How large the slabs of a worker's KV memory are, where `worker.slab_bytes` does not say it.

Two things lie idle in slabs: the tail behind a slab's last whole block, and of each class the blocks of a slab that it
has not filled. Large slabs have short tails, small ones are filled sooner. Measured (benchmarks/fragmentation.py), what
is partly filled comes to about a slab of each class.
"""

from collections.abc import Collection
from typing import Final

LEAST_SLABS: Final = 16  # that a pool has, unless one block needs more than such a slab
_UNKNOWN_SHARE: Final = 1 / 256  # of a pool, that a slab has for blocks of models which are added later,
_LEAST_UNKNOWN_BYTES: Final = 4 << 20  # at least,
_MOST_UNKNOWN_BYTES: Final = 64 << 20  # and at most: 16 tokens of a 72B model without grouped heads are 40 MiB


def choose_slab_bytes(pool_bytes: int, block_bytes: Collection[int], quantum_bytes: int) -> int:
    """A multiple of the quantum, at most pool_bytes where that is a quantum or more.

    block_bytes: of the models that are known. A block that no slab of this pool could hold is left out: its model is
    refused when it is loaded.
    """
    classes = {-(-num_bytes // quantum_bytes) * quantum_bytes for num_bytes in block_bytes}
    classes = {num_bytes for num_bytes in classes if num_bytes <= pool_bytes}
    largest = max(classes, default=quantum_bytes)
    most = pool_bytes // max(LEAST_SLABS, len(classes)) // quantum_bytes * quantum_bytes
    if largest >= most:
        return largest
    for_unknown = min(max(int(pool_bytes * _UNKNOWN_SHARE), _LEAST_UNKNOWN_BYTES), _MOST_UNKNOWN_BYTES)
    least = max(largest, min(for_unknown // quantum_bytes * quantum_bytes, most))
    # A tail only grows from one multiple of its block to the next.
    multiples = {
        size for block in classes for size in range(-(-least // block) * block, most + 1, block) if block >= most / 1024
    }
    return min({least} | multiples, key=lambda size: (idle_share(size, classes, pool_bytes), size))


def idle_share(slab_bytes: int, classes: Collection[int], pool_bytes: int) -> float:
    """Of the pool, while all classes are in use: the worst tail, and a slab of each class."""
    tail = max((slab_bytes % block / slab_bytes for block in classes), default=0.0)
    return tail + len(classes) * slab_bytes / pool_bytes
