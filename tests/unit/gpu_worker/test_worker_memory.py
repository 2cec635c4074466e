from gpu_worker.worker_memory import with_slab_size
from shared.budget import plan_budget
from shared.catalogue import KvShape
from shared.config import WorkerConfig

GIB = 1 << 30
LLAMA_13B = KvShape(40, 40, 128)


def slab_bytes(config: WorkerConfig, *shapes: KvShape) -> int:
    return with_slab_size(config, plan_budget(config, 100 * GIB), shapes, block_tokens=16).slab_bytes


def test_a_slab_size_that_is_set_stays() -> None:
    assert slab_bytes(WorkerConfig(slab_bytes=8192), LLAMA_13B) == 8192


def test_a_slab_is_chosen_by_the_blocks_of_known_models() -> None:
    block_bytes = 40 * 2 * 40 * 128 * 2 * 16
    assert slab_bytes(WorkerConfig(), LLAMA_13B) == 2 * block_bytes
    assert slab_bytes(WorkerConfig(dtype="float32"), LLAMA_13B) == 2 * block_bytes
