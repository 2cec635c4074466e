"""KV blocks move within the device between any two steps; in float32 the output stays what the model says alone."""

import pytest

from gpu_worker.memory.prefix_index import SharedBlocks
from tests.integration.test_exactness import FAMILIES, KV_BYTES, prompts
from tests.integration.test_kv_swap import run_all, swap_at_every_step
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import running_worker
from tests.unit.gpu_worker.stand_ins import emptiest_that_fits

SHARED = list(range(2, 40))  # the beginning of every prompt


def compact_at_every_step(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Wherever a slab's blocks fit beside, whether it helps or not. Returns the blocks that moved."""
    moved: list[int] = []
    move = SharedBlocks.move

    def record(blocks: SharedBlocks, block_id: int, new_id: int) -> None:
        moved.append(block_id)
        move(blocks, block_id, new_id)

    monkeypatch.setattr(SharedBlocks, "slab_to_empty", lambda blocks: emptiest_that_fits(blocks._pool))
    monkeypatch.setattr(SharedBlocks, "move", record)
    return moved


@pytest.mark.parametrize("swaps", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
async def test_compaction_changes_no_token(
    tiny_models: TinyModels, family: str, swaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences of two models end at different times, share beginnings, and give way to each other."""
    moved = compact_at_every_step(monkeypatch)
    if swaps:
        swap_at_every_step(monkeypatch)
    sources = [tiny_models.source(family), tiny_models.source("llama", seed=1)]
    block_bytes = max(tiny_models.block_bytes(source) for source in sources)
    requests = [
        (source, (SHARED if number % 2 else []) + prompt, 5 + 7 * number)
        for number, prompt in enumerate(prompts(6, seed=8))
        for source in sources
    ]
    config = tiny_models.config(
        sources,
        kv_memory_bytes=40 * block_bytes,
        slab_bytes=4 * block_bytes,
        host_kv_memory_bytes=KV_BYTES,
        max_step_tokens=60,
    )
    async with running_worker(config) as harness:
        streams = await run_all(harness, requests)
    for (source, prompt, num), stream in zip(requests, streams, strict=True):
        assert stream.tokens == tiny_models.generate(source, prompt, num, stream.tokens)
    assert moved
