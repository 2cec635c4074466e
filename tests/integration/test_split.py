"""The boundary between weights and KV moves while requests run; in float32 no token changes."""

import pytest

from gpu_worker.memory.arena import Arena
from gpu_worker.sequence import Sequence
from gpu_worker.split import Split
from gpu_worker.step_room import StepRoom
from tests.integration.test_exactness import KV_BYTES, ONE_MODEL_BYTES, prompts
from tests.integration.test_kv_swap import run_all
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import running_worker

SLAB_BYTES = 256 << 10


def record_moves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Slabs that weights get (> 0) or KV gets (< 0), in order."""
    moves: list[int] = []
    lend, take_back = Split._lend, Split._extend_kv

    def recorded_lend(split: Split, num_slabs: int, *, must: bool) -> bool:
        lent = lend(split, num_slabs, must=must)
        moves.extend([num_slabs] * lent)
        return lent

    def recorded_take_back(split: Split, *missing: object) -> bool:
        before = len(split._slabs)
        taken = take_back(split, *missing)  # type: ignore[arg-type]
        moves.extend([before - len(split._slabs)] * taken)
        return taken

    monkeypatch.setattr(Split, "_lend", recorded_lend)
    monkeypatch.setattr(Split, "_extend_kv", recorded_take_back)
    return moves


async def test_three_models_fit_after_kv_gave_slabs_and_a_burst_takes_them_back(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = record_moves(monkeypatch)
    sources = [tiny_models.source("llama"), tiny_models.source("gemma3"), tiny_models.source("llama", seed=1)]
    config = tiny_models.config(
        sources,
        device_memory_bytes=2 * ONE_MODEL_BYTES + KV_BYTES,
        kv_memory_bytes=KV_BYTES,
        least_kv_memory_bytes=KV_BYTES // 4,
        most_kv_memory_bytes=KV_BYTES,
        slab_bytes=SLAB_BYTES,
        turn_steps=1,
    )
    together = [(source, prompt, 30) for prompt in prompts(2, seed=9) for source in sources]
    burst = [(sources[0], [number, *range(2, 60)], 100) for number in range(2, 34)]
    async with running_worker(config) as harness:
        streams = await run_all(harness, together)
        beat = await harness.beats()
        assert [model.state for model in beat.models] == ["resident"] * 3
        assert moves == [ONE_MODEL_BYTES // SLAB_BYTES]
        assert beat.kv_total_bytes == KV_BYTES - ONE_MODEL_BYTES
        streams += await run_all(harness, burst)
        beat = await harness.beats()
        assert sum(moves) < ONE_MODEL_BYTES // SLAB_BYTES
        assert beat.models[0].state == "resident"
        assert beat.kv_total_bytes == KV_BYTES - sum(moves) * SLAB_BYTES
    for (source, prompt, num), stream in zip(together + burst, streams, strict=True):
        assert stream.tokens == tiny_models.generate(source, prompt, num, stream.tokens)


async def test_sequences_give_way_to_a_model_that_weights_alone_could_never_hold(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KV is full when the turn of the larger model comes."""
    monkeypatch.setattr(Arena.__init__, "__defaults__", (64 << 10,))
    moves, leavers, empty = record_moves(monkeypatch), set[Sequence](), StepRoom._empty

    def recorded_empty(room: StepRoom, leaving: set[Sequence]) -> None:
        leavers.update(leaving)
        empty(room, leaving)

    monkeypatch.setattr(StepRoom, "_empty", recorded_empty)
    small, large = tiny_models.source("llama"), tiny_models.source("gemma3")
    sizes = [tiny_models.weights_file(source).stat().st_size for source in (small, large)]
    block_bytes = max(tiny_models.block_bytes(source) for source in (small, large))
    slab_bytes = 4 * block_bytes
    config = tiny_models.config(
        [small, large],
        device_memory_bytes=-(-sizes[0] // (64 << 10)) * (64 << 10) + 12 * slab_bytes,
        kv_memory_bytes=12 * slab_bytes,
        least_kv_memory_bytes=6 * slab_bytes,
        slab_bytes=slab_bytes,
        host_kv_memory_bytes=KV_BYTES,
        prefix_cache=False,
        turn_steps=1,
    )
    many = [[number, *range(2, 81)] for number in range(2, 23)]  # 6 blocks each, 7 later; there are 144
    async with running_worker(config) as harness:
        ids = [await harness.submit(small.name, prompt, 30) for prompt in many]
        for request_id in ids:
            await harness.tokens(request_id, 1)
        last = await harness.submit(large.name, many[0][:20], 30)
        for prompt, request_id in zip(many, ids, strict=True):
            tokens = (await harness.finish(request_id)).tokens
            assert tokens == tiny_models.generate(small, prompt, 30, tokens)
        assert (await harness.finish(last)).tokens == tiny_models.generate(large, many[0][:20], 30)
    assert sizes[0] < sizes[1] and leavers
    assert moves[0] > 0
