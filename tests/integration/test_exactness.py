"""The invariant of the whole system: in float32, greedy output under any schedule equals the model run alone."""

import itertools
import random

import pytest

from benchmarks.tiny_models import VOCAB_SIZE
from shared.config import ModelSource
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import running_worker

FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma3", "gpt_neox", "phi", "qwen3_moe")
NUM_TOKENS = 24
ONE_MODEL_BYTES = 2 << 20  # of the weight region: what any one tiny model takes
KV_BYTES = 4 << 20


def prompts(num: int, seed: int = 0) -> list[list[int]]:
    """Short, block-sized and longer than the tiny models' window of 12."""
    rng = random.Random(seed)
    return [[rng.randrange(2, VOCAB_SIZE) for _ in range(rng.choice((1, 5, 16, 33, 70)))] for _ in range(num)]


async def check(
    tiny_models: TinyModels, requests: list[tuple[ModelSource, list[int], int]], **worker: object
) -> list[str]:
    """Runs all at once and compares; returns the models in the order in which the device went through them."""
    sources = list(dict.fromkeys(source for source, _, _ in requests))
    async with running_worker(tiny_models.config(sources, **worker)) as harness:
        outputs = await harness.run_all(requests)
        beat = await harness.beat_where(lambda beat: not beat.models[0].num_running)
        numbers = [frame.number for frame in harness.frames]
    for (source, prompt, num), output in zip(requests, outputs, strict=True):
        assert output == tiny_models.generate(source, prompt, num, output)
    assert beat.kv_used_bytes == 0
    assert numbers == list(range(1, len(numbers) + 1))
    return [switch.model for switch in harness.switches]


@pytest.mark.parametrize("family", FAMILIES)
async def test_alone(tiny_models: TinyModels, family: str) -> None:
    source = tiny_models.source(family)
    async with running_worker(tiny_models.config([source])) as harness:
        for prompt in prompts(3):
            assert await harness.run_all([(source, prompt, NUM_TOKENS)]) == [
                tiny_models.generate(source, prompt, NUM_TOKENS)
            ]


@pytest.mark.parametrize("family", FAMILIES)
async def test_eight_together(tiny_models: TinyModels, family: str) -> None:
    source = tiny_models.source(family)
    await check(tiny_models, [(source, prompt, NUM_TOKENS) for prompt in prompts(8)])


@pytest.mark.parametrize("family", FAMILIES)
async def test_chunked_prefill(tiny_models: TinyModels, family: str) -> None:
    source = tiny_models.source(family)
    await check(tiny_models, [(source, prompt, NUM_TOKENS) for prompt in prompts(4, seed=1)], max_step_tokens=7)


@pytest.mark.parametrize("family", FAMILIES)
async def test_two_models_switched_every_step_with_memory_for_one(tiny_models: TinyModels, family: str) -> None:
    first, second = tiny_models.source(family), tiny_models.source("llama" if family != "llama" else "gemma3", seed=1)
    requests = [(source, prompt, NUM_TOKENS) for prompt in prompts(2) for source in (first, second)]
    order = await check(tiny_models, requests, device_memory_bytes=ONE_MODEL_BYTES + KV_BYTES, turn_steps=1)
    assert len(order) >= 2 * NUM_TOKENS
    assert all(a != b for a, b in itertools.pairwise(order))


@pytest.mark.parametrize("family", FAMILIES)
async def test_preempted_and_resumed(tiny_models: TinyModels, family: str) -> None:
    source = tiny_models.source(family)
    requests = [(source, prompt, 60) for prompt in prompts(8, seed=2)]
    block_bytes = tiny_models.block_bytes(source)
    config = tiny_models.config([source], kv_memory_bytes=24 * block_bytes, slab_bytes=8 * block_bytes)
    async with running_worker(config) as harness:
        ids = [await harness.submit(source.name, prompt, num) for source, prompt, num in requests]
        streams = [await harness.finish(request_id) for request_id in ids]
    assert sum(stream.ended.num_preemptions for stream in streams if stream.ended) > 0
    for (_, prompt, num), stream in zip(requests, streams, strict=True):
        assert stream.tokens == tiny_models.generate(source, prompt, num, stream.tokens)


async def test_resumed_from_an_earlier_attempts_output(tiny_models: TinyModels) -> None:
    source, prompt = tiny_models.source("llama"), prompts(1)[0]
    expected = tiny_models.generate(source, prompt, NUM_TOKENS)
    async with running_worker(tiny_models.config([source])) as harness:
        request_id = await harness.submit(source.name, prompt, NUM_TOKENS, output=expected[:9], attempt=1)
        stream = harness.streams[request_id]
        stream.tokens += expected[:9]
        await harness.finish(request_id)
    assert stream.tokens == expected
