"""The unified KV pool: one memory, cut into slabs that models of any KV shape take and give back.

A slab takes a shape class when its first block is handed out and returns to the common pool with its last one:

    slab 0 (class a)            slab 1 (class b)            slab 2 (free)
    [a0)[a1)[a2)[a3)..          [b0   )[b1   )...           [                  )
    ^ slab * slab_bytes         ^ block id * quantum_bytes

A block's id is its byte offset in quanta, so one strided view with the quantum as its page stride addresses every
block of a class in any slab. Device and host memory use the same class.
"""

from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shared.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ShapeClass:
    """Models whose KV blocks have equal bytes."""

    block_bytes: int  # a multiple of the pool's quantum
    blocks_per_slab: int


@dataclass(frozen=True, slots=True)
class OutOfBlocks:
    """Nothing was allocated: `needed` blocks were asked for, `free` could be had."""

    needed: int
    free: int


@dataclass(frozen=True, slots=True)
class PoolStats:
    total_bytes: int
    used_bytes: int  # in live blocks
    held_bytes: int  # in slabs that have a class
    num_slabs: int
    num_free_slabs: int

    @property
    def fragmentation(self) -> float:
        """Bytes of taken slabs that are in no live block, of all."""
        return (self.held_bytes - self.used_bytes) / self.total_bytes if self.total_bytes else 0.0


@dataclass(frozen=True, slots=True)
class SparseSlab:
    """Of a class's slabs the one that has most free blocks, if any is partly used."""

    number: int
    shape: ShapeClass
    num_used: int
    num_free_elsewhere: int  # blocks, in the class's other partly used slabs


@dataclass(slots=True)
class _Slab:
    shape: ShapeClass
    free: list[int]  # block ids
    used: set[int]  # block ids; len(free) + len(used) = shape.blocks_per_slab


class _PartlyUsed:
    """The slabs of one class that have free blocks, by how many; finds the fullest without a scan."""

    def __init__(self, shape: ShapeClass) -> None:
        self.num_free_blocks = 0
        self.num_slabs = 0  # of the class, full ones included
        self._slabs: list[dict[int, None]] = [{} for _ in range(shape.blocks_per_slab + 1)]  # index: free blocks
        self._present = 0  # bit n: _slabs[n] is not empty

    def move(self, slab: int, num_free_before: int, num_free_after: int) -> None:
        """0 free blocks means that the slab is not listed: full, or not of this class."""
        self.num_free_blocks += num_free_after - num_free_before
        if num_free_before:
            del self._slabs[num_free_before][slab]
            if not self._slabs[num_free_before]:
                self._present &= ~(1 << num_free_before)
        if num_free_after:
            self._slabs[num_free_after][slab] = None
            self._present |= 1 << num_free_after

    def fullest(self) -> int | None:
        if not self._present:
            return None
        least_free = (self._present & -self._present).bit_length() - 1
        return next(iter(self._slabs[least_free]))

    def emptiest(self) -> int | None:
        return next(iter(self._slabs[self._present.bit_length() - 1])) if self._present else None


class SlabPool:
    """Free + used = total, in blocks of every class and in bytes. All-or-nothing; no operation scans the slabs."""

    def __init__(self, total_bytes: int, slab_bytes: int, quantum_bytes: int, num_lent_slabs: int = 0) -> None:
        """Raises ConfigError when the sizes don't go together. Uses whole slabs only; of 0 bytes, it is always full.

        num_lent_slabs: before its own there are as many that somebody else has, and that it can take back.
        """
        if quantum_bytes <= 0 or slab_bytes <= 0 or slab_bytes % quantum_bytes:
            raise ConfigError(f"worker.slab_bytes = {slab_bytes} must be a multiple of {quantum_bytes} bytes")
        if 0 < total_bytes < slab_bytes:
            raise ConfigError(f"worker.kv_memory_bytes = {total_bytes} is less than one slab of {slab_bytes} bytes")
        self.slab_bytes = slab_bytes
        self.quantum_bytes = quantum_bytes
        self.num_slabs = total_bytes // slab_bytes
        self.first_slab = num_lent_slabs  # those before it are lent
        self.used_bytes = 0
        self._quanta_per_slab = slab_bytes // quantum_bytes
        self._free_slabs = list(range(self.first_slab, self.first_slab + self.num_slabs))  # ascending
        self._slabs: dict[int, _Slab] = {}  # those with a class
        self._partly: dict[ShapeClass, _PartlyUsed] = {}

    def register(self, block_bytes: int) -> ShapeClass:
        """The class of blocks of this size, which is rounded up to the quantum. Raises ConfigError if none fits."""
        if block_bytes <= 0:
            raise ConfigError(f"a KV block of {block_bytes} bytes is no block")
        rounded_bytes = -(-block_bytes // self.quantum_bytes) * self.quantum_bytes
        if rounded_bytes > self.slab_bytes:
            raise ConfigError(
                f"a KV block of {rounded_bytes} bytes is larger than a slab of {self.slab_bytes}: raise worker.slab "
                "or, where it is not set, worker.kv_memory"
            )
        shape = ShapeClass(rounded_bytes, self.slab_bytes // rounded_bytes)
        if shape not in self._partly:
            self._partly[shape] = _PartlyUsed(shape)
        return shape

    def unregister(self, shape: ShapeClass) -> bool:
        """Forgets a class that nobody allocates from any more; False while it has a slab."""
        if self._partly[shape].num_slabs:
            return False
        del self._partly[shape]
        return True

    @property
    def total_bytes(self) -> int:
        return self.num_slabs * self.slab_bytes

    def lend(self, num_slabs: int) -> None:
        """Its first slabs are somebody else's from now on. Raises ValueError where one of them is not free."""
        if self._free_slabs[:num_slabs] != list(range(self.first_slab, self.first_slab + num_slabs)):
            raise ValueError(f"the first {num_slabs} slabs are not free")
        del self._free_slabs[:num_slabs]
        self.first_slab += num_slabs
        self.num_slabs -= num_slabs

    def take_back(self, num_slabs: int) -> None:
        if num_slabs > self.first_slab:
            raise ValueError(f"{self.first_slab} slabs are lent, not {num_slabs}")
        self.first_slab -= num_slabs
        self.num_slabs += num_slabs
        self._free_slabs[:0] = range(self.first_slab, self.first_slab + num_slabs)

    def capacity_blocks(self, shape: ShapeClass) -> int:
        """What an empty pool holds: a sequence that needs more can never run."""
        return self.num_slabs * shape.blocks_per_slab

    def num_free_blocks(self, shape: ShapeClass) -> int:
        return self._partly[shape].num_free_blocks + len(self._free_slabs) * shape.blocks_per_slab

    def allocate(self, shape: ShapeClass, num_blocks: int) -> list[int] | OutOfBlocks:
        """Block ids from the fullest slabs of the class first, so that the others can empty; then of the last slabs."""
        num_free = self.num_free_blocks(shape)
        if num_blocks > num_free:
            return OutOfBlocks(needed=num_blocks, free=num_free)
        block_ids: list[int] = []
        while len(block_ids) < num_blocks:
            fullest = self._partly[shape].fullest()
            slab = self._take_slab(shape) if fullest is None else fullest
            block_ids += self._take_blocks(slab, num_blocks - len(block_ids))
        self.used_bytes += num_blocks * shape.block_bytes
        return block_ids

    def free(self, shape: ShapeClass, block_ids: Iterable[int]) -> None:
        """Raises ValueError at a block that is not in use by this class, freed twice for one."""
        for block_id in block_ids:
            number = self.slab_of(block_id)
            slab = self._slabs.get(number)
            if slab is None or slab.shape != shape or block_id not in slab.used:
                raise ValueError(f"block {block_id} is not in use by the class of {shape.block_bytes} bytes")
            slab.used.remove(block_id)
            slab.free.append(block_id)
            self.used_bytes -= shape.block_bytes
            if slab.used:
                self._partly[shape].move(number, len(slab.free) - 1, len(slab.free))
            else:
                self._partly[shape].move(number, len(slab.free) - 1, 0)
                self._partly[shape].num_slabs -= 1
                del self._slabs[number]
                insort(self._free_slabs, number)

    def allocate_beside(self, slab: SparseSlab, num_blocks: int) -> list[int]:
        """Block ids from the class's other partly used slabs, which have as many."""
        assert num_blocks <= slab.num_free_elsewhere
        partly, num_free = self._partly[slab.shape], slab.shape.blocks_per_slab - slab.num_used
        partly.move(slab.number, num_free, 0)
        block_ids = self.allocate(slab.shape, num_blocks)
        partly.move(slab.number, 0, num_free)
        assert not isinstance(block_ids, OutOfBlocks)
        return block_ids

    def sparse_slabs(self) -> Iterator[SparseSlab]:
        """One per class that has a partly used slab."""
        for shape, partly in self._partly.items():
            if (number := partly.emptiest()) is not None:
                num_used = len(self._slabs[number].used)
                num_elsewhere = partly.num_free_blocks - (shape.blocks_per_slab - num_used)
                yield SparseSlab(number, shape, num_used, num_elsewhere)

    def blocks_in(self, slab: int) -> list[int]:
        """Those in use, ascending."""
        return sorted(self._slabs[slab].used) if slab in self._slabs else []

    def slab_of(self, block_id: int) -> int:
        return block_id // self._quanta_per_slab

    def stats(self) -> PoolStats:
        return PoolStats(
            total_bytes=self.total_bytes,
            used_bytes=self.used_bytes,
            held_bytes=len(self._slabs) * self.slab_bytes,
            num_slabs=self.num_slabs,
            num_free_slabs=len(self._free_slabs),
        )

    def slabs_by_class(self) -> list[tuple[ShapeClass, int]]:
        """How many slabs each registered class has."""
        return [(shape, partly.num_slabs) for shape, partly in self._partly.items()]

    def _take_slab(self, shape: ShapeClass) -> int:
        number = self._free_slabs.pop()
        first = number * self._quanta_per_slab
        quanta_per_block = shape.block_bytes // self.quantum_bytes
        ids = range(first, first + shape.blocks_per_slab * quanta_per_block, quanta_per_block)
        self._slabs[number] = _Slab(shape, free=list(reversed(ids)), used=set())
        self._partly[shape].move(number, 0, shape.blocks_per_slab)
        self._partly[shape].num_slabs += 1
        return number

    def _take_blocks(self, number: int, num_wanted: int) -> list[int]:
        slab = self._slabs[number]
        num_free = len(slab.free)
        taken = [slab.free.pop() for _ in range(min(num_wanted, num_free))]
        slab.used.update(taken)
        self._partly[slab.shape].move(number, num_free, len(slab.free))
        return taken
