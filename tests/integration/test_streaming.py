"""Weights over an emulated link: the first step streams, the next model comes ahead, and no token changes."""

import pytest

from tests.integration.test_exactness import FAMILIES, KV_BYTES, NUM_TOKENS, ONE_MODEL_BYTES, check, prompts
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import running_worker

SLOW_BYTES_PER_S = 16 << 20  # a tiny model takes some tens of milliseconds: several steps


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_first_step_runs_while_its_weights_arrive(tiny_models: TinyModels, family: str) -> None:
    source = tiny_models.source(family)
    config = tiny_models.config(
        [source], device_memory_bytes=ONE_MODEL_BYTES + KV_BYTES, link_bandwidth_bytes=SLOW_BYTES_PER_S
    )
    prompt = prompts(1, seed=3)[0]
    async with running_worker(config) as harness:
        assert await harness.run_all([(source, prompt, NUM_TOKENS)]) == [
            tiny_models.generate(source, prompt, NUM_TOKENS)
        ]
        assert [switch.kind for switch in harness.switches] == ["streamed"]


@pytest.mark.parametrize("family", FAMILIES)
async def test_streaming_with_memory_for_one(tiny_models: TinyModels, family: str) -> None:
    first, second = tiny_models.source(family), tiny_models.source("llama" if family != "llama" else "gemma3", seed=1)
    requests = [(source, prompt, NUM_TOKENS) for prompt in prompts(2) for source in (first, second)]
    order = await check(
        tiny_models,
        requests,
        device_memory_bytes=ONE_MODEL_BYTES + KV_BYTES,
        turn_steps=2,
        link_bandwidth_bytes=SLOW_BYTES_PER_S,
    )
    assert len(order) > 4


async def test_three_models_with_memory_for_two_come_ahead_of_their_turns(tiny_models: TinyModels) -> None:
    sources = [tiny_models.source("llama"), tiny_models.source("qwen2"), tiny_models.source("gemma3")]
    requests = [(source, prompt, 40) for prompt in prompts(2) for source in sources]
    config = tiny_models.config(
        sources,
        device_memory_bytes=2 * ONE_MODEL_BYTES + KV_BYTES,
        turn_steps=8,
        link_bandwidth_bytes=4 * SLOW_BYTES_PER_S,
    )
    async with running_worker(config) as harness:
        outputs = await harness.run_all(requests)
        kinds = {switch.kind for switch in harness.switches}
    for (source, prompt, num), output in zip(requests, outputs, strict=True):
        assert output == tiny_models.generate(source, prompt, num, output)
    assert "prefetched" in kinds
