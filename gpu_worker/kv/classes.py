"""Shape classes of the models that are served. Both memories have equal slabs and quanta, so a class is the same in
both."""

from collections import Counter

from gpu_worker.kv.compaction import Compaction
from gpu_worker.memory.prefix_index import SharedBlocks
from gpu_worker.memory.slab_pool import ShapeClass


class Classes:
    def __init__(self, on_device: SharedBlocks, in_host: SharedBlocks, compaction: Compaction) -> None:
        self._on_device = on_device
        self._in_host = in_host
        self._compaction = compaction
        self._num_models: Counter[ShapeClass] = Counter()  # of a class; 0: it goes when nothing of it is under copy

    def register(self, block_bytes: int) -> ShapeClass:
        """For one more model. Raises ConfigError if none fits."""
        self._in_host.register(block_bytes)
        shape = self._on_device.register(block_bytes)
        self._num_models[shape] += 1
        return shape

    def unregister(self, shape: ShapeClass) -> None:
        """One model less. With the last one of a class, what is kept of the class goes, too."""
        self._num_models[shape] -= 1
        self.drop_unused()

    def drop_unused(self) -> None:
        if 0 not in self._num_models.values() or self._compaction.is_moving:
            return
        for shape in [shape for shape, num_models in self._num_models.items() if not num_models]:
            memories = (self._on_device, self._in_host)
            if all([blocks.unregister(shape) for blocks in memories if shape in blocks.shapes]):
                del self._num_models[shape]
