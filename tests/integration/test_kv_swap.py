"""Preempted KV goes to host memory and comes back; in float32 the output stays what the model says alone."""

from collections.abc import Iterable

import pytest

from gpu_worker.kv.room import Room
from gpu_worker.sequence import Sequence
from gpu_worker.served_model import ServedModel
from shared.config import ModelSource
from tests.integration.test_exactness import FAMILIES, KV_BYTES, NUM_TOKENS, ONE_MODEL_BYTES, prompts
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import Harness, Stream, running_worker


async def run_all(harness: Harness, requests: list[tuple[ModelSource, list[int], int]]) -> list[Stream]:
    ids = [await harness.submit(source.name, prompt, num) for source, prompt, num in requests]
    streams = [await harness.finish(request_id) for request_id in ids]
    beat = await harness.beat_where(lambda beat: not any(model.num_running for model in beat.models))
    assert beat.kv_used_bytes == 0
    return streams


@pytest.mark.parametrize("num_host_blocks", [0, 8, 100])
@pytest.mark.parametrize("family", FAMILIES)
async def test_preempted_and_resumed(tiny_models: TinyModels, family: str, num_host_blocks: int) -> None:
    """Without host memory for KV it is computed again, with little of it some is, with enough none."""
    source = tiny_models.source(family)
    requests = [(source, prompt, 60) for prompt in prompts(8, seed=2)]
    block_bytes = tiny_models.block_bytes(source)
    config = tiny_models.config(
        [source],
        kv_memory_bytes=24 * block_bytes,
        slab_bytes=4 * block_bytes,
        host_kv_memory_bytes=num_host_blocks * block_bytes or 1,
    )
    async with running_worker(config) as harness:
        streams = await run_all(harness, requests)
    for (_, prompt, num), stream in zip(requests, streams, strict=True):
        assert stream.tokens == tiny_models.generate(source, prompt, num, stream.tokens)
    ends = [stream.ended for stream in streams if stream.ended]
    num_preemptions, num_swaps = sum(end.num_preemptions for end in ends), sum(end.num_swaps for end in ends)
    assert num_preemptions > 0
    if num_host_blocks == 0:
        assert num_swaps == 0
    elif num_host_blocks == 8:
        assert 0 < num_swaps < num_preemptions
    else:
        assert num_swaps == num_preemptions


def swap_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has been part of a step is swapped out and in before its next one."""
    make, stepped = Room.make, set[Sequence]()

    def make_room(
        room: Room[Sequence], model: ServedModel, shares: Iterable[tuple[Sequence, int]]
    ) -> list[tuple[Sequence, int]]:
        shares = list(shares)
        leaving = stepped.intersection(sequence for sequence, _ in shares)
        for sequence in leaving:
            stepped.remove(sequence)
            model.preempt(sequence)
        ready = make(room, model, [share for share in shares if share[0] not in leaving])
        stepped.update(sequence for sequence, _ in ready)
        return ready

    monkeypatch.setattr(Room, "make", make_room)


@pytest.mark.parametrize("family", FAMILIES)
async def test_swapped_out_and_in_at_every_step(
    tiny_models: TinyModels, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of prompts, too, and two models in turns, with memory for the weights of one."""
    swap_at_every_step(monkeypatch)
    first, second = tiny_models.source(family), tiny_models.source("llama" if family != "llama" else "gemma3", seed=1)
    requests = [(source, prompt, NUM_TOKENS) for prompt in prompts(3, seed=3) for source in (first, second)]
    config = tiny_models.config(
        [first, second],
        device_memory_bytes=ONE_MODEL_BYTES + KV_BYTES,
        host_kv_memory_bytes=KV_BYTES,
        turn_steps=1,
        max_step_tokens=20,
    )
    async with running_worker(config) as harness:
        streams = await run_all(harness, requests)
    for (source, prompt, num), stream in zip(requests, streams, strict=True):
        assert stream.tokens == tiny_models.generate(source, prompt, num, stream.tokens)
        assert stream.ended is not None
        assert stream.ended.num_swaps == stream.ended.num_preemptions >= NUM_TOKENS - 1


async def test_swapped_over_a_link_at_every_step(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    swap_at_every_step(monkeypatch)
    source = tiny_models.source("gemma3")
    requests = [(source, prompt, NUM_TOKENS) for prompt in prompts(3, seed=6)]
    config = tiny_models.config(
        [source],
        device_memory_bytes=ONE_MODEL_BYTES + KV_BYTES,
        host_kv_memory_bytes=KV_BYTES,
        link_bandwidth_bytes=1 << 30,
    )
    async with running_worker(config) as harness:
        streams = await run_all(harness, requests)
    for (_, prompt, num), stream in zip(requests, streams, strict=True):
        assert stream.tokens == tiny_models.generate(source, prompt, num, stream.tokens)
        assert stream.ended is not None
        assert stream.ended.num_swaps >= NUM_TOKENS - 1


async def test_cancels_while_kv_is_on_its_way(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any token, with half of the sequences cancelled; the others are not touched."""
    swap_at_every_step(monkeypatch)
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source], host_kv_memory_bytes=KV_BYTES)) as harness:
        ids = [await harness.submit(source.name, prompt, 100) for prompt in prompts(8, seed=4)]
        for num, request_id in enumerate(ids[::2]):
            await harness.tokens(request_id, 3 + 5 * num)
            await harness.cancel(request_id, source.name)
        streams = [await harness.finish(request_id) for request_id in ids]
        beat = await harness.beat_where(lambda beat: not beat.models[0].num_running and not beat.models[0].num_waiting)
        beat = await harness.beats()
    assert beat.kv_used_bytes == 0
    assert [stream.ended.reason for stream in streams if stream.ended] == ["cancelled", "length"] * 4
    for prompt, stream in zip(prompts(8, seed=4), streams, strict=True):
        assert stream.tokens == tiny_models.generate(source, prompt, len(stream.tokens), stream.tokens)
