"""What the full blocks of sequences hold: the keys by which others find them."""

from gpu_worker.kv.holders import Holders
from gpu_worker.memory.prefix_index import BlockKey, SharedBlocks, extend_chain
from gpu_worker.sequence import Sequence


class Content:
    def __init__(self, on_device: SharedBlocks, holders: Holders, block_tokens: int) -> None:
        self._on_device = on_device
        self._holders = holders
        self._block_tokens = block_tokens

    def keys(self, sequence: Sequence, num_tokens: int) -> list[BlockKey]:
        """Of the full blocks of its first `num_tokens`."""
        extend_chain(sequence.block_keys, sequence.root_key, sequence.token_ids, self._block_tokens)
        return sequence.block_keys[: num_tokens // self._block_tokens]

    def publish(self, sequence: Sequence) -> None:
        """Its full blocks may be shared from now on. Those with equal content give way to the known ones."""
        num_full = sequence.num_computed_tokens // self._block_tokens if sequence.block_ids else 0
        if num_full <= sequence.num_published_blocks:
            return
        keys = self.keys(sequence, sequence.num_computed_tokens)
        for index in range(sequence.num_published_blocks, num_full):
            block_id = sequence.block_ids[index]
            known = self._on_device.publish(block_id, keys[index])
            if known != block_id:
                sequence.block_ids[index] = known
                self._holders.remove(sequence, [block_id])
                self._holders.add(sequence, [known])
        sequence.num_published_blocks = num_full
