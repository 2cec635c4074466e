"""The device's KV memory as whole slabs, which weights may get and give back."""

from gpu_worker.kv.compaction import Compaction
from gpu_worker.kv.holders import Holders
from gpu_worker.memory.prefix_index import SharedBlocks
from gpu_worker.sequence import Sequence


class DeviceSlabs:
    def __init__(self, blocks: SharedBlocks, holders: Holders, compaction: Compaction) -> None:
        self._blocks = blocks
        self._holders = holders
        self._compaction = compaction

    def __len__(self) -> int:
        """Those that KV has."""
        return self._blocks.num_slabs

    @property
    def slab_bytes(self) -> int:
        return self._blocks.slab_bytes

    @property
    def first(self) -> int:
        """Those before it are lent."""
        return self._blocks.first_slab

    def lend(self, num_slabs: int) -> bool:
        """Gives the first ones away, if nobody uses a block of theirs."""
        return not self._compaction.is_moving and self._blocks.lend(num_slabs)

    def take_back(self, num_slabs: int) -> None:
        self._blocks.take_back(num_slabs)

    def holders(self, num_slabs: int) -> set[Sequence]:
        """Sequences at rest with blocks in the first ones."""
        block_ids = self._blocks.boundary_blocks(num_slabs)
        return {sequence for block_id in block_ids for sequence in self._holders.of(block_id)}
