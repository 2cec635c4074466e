"""Equal beginnings are computed once; in float32 the output stays what the model says alone."""

import pytest

from shared.messages import Ended
from tests.integration.test_exactness import FAMILIES, KV_BYTES, prompts
from tests.integration.test_kv_swap import swap_at_every_step
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import Harness, Stream, running_worker

BLOCK_TOKENS = 16
PROMPT = list(range(2, 72))  # 70 tokens: past the tiny models' windows, four full blocks and a part
NUM_TOKENS = 30


def end_of(stream: Stream) -> Ended:
    assert stream.ended is not None
    return stream.ended


async def run(harness: Harness, model: str, prompt: list[int], num_tokens: int = NUM_TOKENS) -> Stream:
    return await harness.finish(await harness.submit(model, prompt, num_tokens))


@pytest.mark.parametrize("family", FAMILIES)
async def test_the_same_prompt_again_and_a_turn_of_a_conversation(tiny_models: TinyModels, family: str) -> None:
    source = tiny_models.source(family)
    async with running_worker(tiny_models.config([source])) as harness:
        first, second = [await run(harness, source.name, PROMPT) for _ in range(2)]
        following = [*PROMPT, *second.tokens, 5, 6, 7]
        third = await run(harness, source.name, following)
    expected = tiny_models.generate(source, PROMPT, NUM_TOKENS, first.tokens)
    assert first.tokens == second.tokens == expected
    assert third.tokens == tiny_models.generate(source, following, NUM_TOKENS, third.tokens)
    cached = [end_of(stream).num_cached_tokens for stream in (first, second, third)]
    assert cached == [0, 64, (70 + NUM_TOKENS - 1) // BLOCK_TOKENS * BLOCK_TOKENS]


async def test_the_last_token_of_a_prompt_is_always_computed(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as harness:
        for _ in range(2):
            stream = await run(harness, source.name, PROMPT[:64])
            assert stream.tokens == tiny_models.generate(source, PROMPT[:64], NUM_TOKENS)
    assert end_of(stream).num_cached_tokens == 48


async def test_nothing_is_shared_between_models_or_where_it_is_switched_off(tiny_models: TinyModels) -> None:
    sources = [tiny_models.source("llama", seed) for seed in (0, 1)]
    async with running_worker(tiny_models.config(sources)) as harness:
        for source in sources:
            stream = await run(harness, source.name, PROMPT)
            assert end_of(stream).num_cached_tokens == 0
            assert stream.tokens == tiny_models.generate(source, PROMPT, NUM_TOKENS)
    async with running_worker(tiny_models.config(sources, prefix_cache=False)) as harness:
        for _ in range(2):
            assert end_of(await run(harness, sources[0].name, PROMPT)).num_cached_tokens == 0


async def test_choices_of_one_prompt_share_what_was_computed_before_they_begin(tiny_models: TinyModels) -> None:
    """They come together; a step has room for a part of the prompt only."""
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source], max_step_tokens=32)) as harness:
        ids = [
            await harness.submit(source.name, PROMPT, NUM_TOKENS, temperature=1.0, choice_index=k, seed=3)
            for k in range(3)
        ]
        streams = [await harness.finish(request_id) for request_id in ids]
    assert [end_of(stream).num_cached_tokens for stream in streams] == [0, 64, 64]
    assert len({tuple(stream.tokens) for stream in streams}) == 3


@pytest.mark.parametrize("num_host_blocks", [0, 12, 200])
@pytest.mark.parametrize("family", ("llama", "gemma3", "mistral"))
async def test_hits_beside_preemption(tiny_models: TinyModels, family: str, num_host_blocks: int) -> None:
    """Three rounds of the same prompts, of which the device can't keep all: found there, in host memory, or lost."""
    source = tiny_models.source(family)
    block_bytes = tiny_models.block_bytes(source)
    config = tiny_models.config(
        [source],
        kv_memory_bytes=24 * block_bytes,
        slab_bytes=4 * block_bytes,
        host_kv_memory_bytes=num_host_blocks * block_bytes or 1,
        max_step_tokens=40,
    )
    ends = []
    async with running_worker(config) as harness:
        for _ in range(3):
            asked = [PROMPT[: 20 + i] + prompt for i, prompt in enumerate(prompts(8, seed=5))]
            ids = [await harness.submit(source.name, prompt, 40) for prompt in asked]
            for prompt, request_id in zip(asked, ids, strict=True):
                stream = await harness.finish(request_id)
                assert stream.tokens == tiny_models.generate(source, prompt, 40, stream.tokens)
                ends.append(end_of(stream))
        beat = await harness.beat_where(lambda beat: not beat.models[0].num_running)
    assert beat.kv_used_bytes == 0
    assert sum(end.num_preemptions for end in ends) > 0
    cached = [sum(end.num_cached_tokens for end in ends[first : first + 8]) for first in (0, 8, 16)]
    assert cached[1] > 0 and cached[2] > 0


@pytest.mark.parametrize("family", FAMILIES)
async def test_hits_and_swaps_at_every_step(
    tiny_models: TinyModels, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap_at_every_step(monkeypatch)
    source = tiny_models.source(family)
    config = tiny_models.config([source], host_kv_memory_bytes=KV_BYTES, max_step_tokens=30)
    async with running_worker(config) as harness:
        for _ in range(2):
            asked = [PROMPT[:40], PROMPT, [*PROMPT[:33], *PROMPT]]
            ids = [await harness.submit(source.name, prompt, NUM_TOKENS) for prompt in asked]
            for prompt, request_id in zip(asked, ids, strict=True):
                stream = await harness.finish(request_id)
                assert stream.tokens == tiny_models.generate(source, prompt, NUM_TOKENS, stream.tokens)
    assert end_of(stream).num_cached_tokens == 96
