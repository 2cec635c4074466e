"""No policy changes a token, and those that never switch say which models they refuse."""

from typing import get_args

import pytest

from shared.config import ModelSource, PolicyName
from shared.ids import ModelName
from shared.messages import WorkerBeat
from tests.integration.step_gate import gated_steps
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import Harness, running_worker

SWITCHING = [name for name in get_args(PolicyName) if name not in ("static", "dedicated")]
NUM_TOKENS = 20
PROMPTS = [list(range(2, 2 + length)) for length in (5, 40, 16)]
ONE_MODEL_BYTES = 2 << 20  # of the weight region
KV_BYTES = 4 << 20


def three(tiny_models: TinyModels) -> list[ModelSource]:
    return [tiny_models.source(family) for family in ("llama", "gemma3", "qwen2")]


async def check(harness: Harness, tiny_models: TinyModels, sources: list[ModelSource]) -> None:
    requests = [(source, prompt, NUM_TOKENS) for prompt in PROMPTS for source in sources]
    for (source, prompt, num), output in zip(requests, await harness.run_all(requests), strict=True):
        assert output == tiny_models.generate(source, prompt, num, output)


@pytest.mark.parametrize("policy", SWITCHING)
async def test_three_models_with_memory_for_two(tiny_models: TinyModels, policy: PolicyName) -> None:
    sources = three(tiny_models)
    memory_bytes = 2 * ONE_MODEL_BYTES + KV_BYTES
    config = tiny_models.config(
        sources, policy=policy, device_memory_bytes=memory_bytes, max_step_tokens=16, turn_steps=2
    )
    async with running_worker(config) as harness:
        await check(harness, tiny_models, sources)
        copied = [switch.model for switch in harness.switches if switch.copied_bytes]
    assert set(copied) == {source.name for source in sources}
    assert len(copied) >= 3


@pytest.mark.parametrize("policy", SWITCHING)
async def test_with_kv_for_few(tiny_models: TinyModels, policy: PolicyName, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences are preempted, and their KV comes back."""
    sources = three(tiny_models)[:2]
    block_bytes = max(tiny_models.block_bytes(source) for source in sources)
    config = tiny_models.config(
        sources, policy=policy, kv_memory_bytes=6 * block_bytes, slab_bytes=2 * block_bytes, max_running=6
    )
    async with running_worker(config) as harness:
        requests = [(source, prompt) for source in sources for prompt in PROMPTS * 2]  # neighbours may run together
        async with gated_steps(monkeypatch) as gate:  # all are there before the first step is over
            ids = [await harness.submit(source.name, prompt, NUM_TOKENS) for source, prompt in requests]
            await gate.arrival()
        for (source, prompt), request_id in zip(requests, ids, strict=True):
            tokens = (await harness.finish(request_id)).tokens
            assert tokens == tiny_models.generate(source, prompt, NUM_TOKENS, tokens)
        beat = await harness.beat_where(lambda beat: not any(load.num_running for load in beat.models))
        ends = [stream.ended for stream in harness.streams.values() if stream.ended]
    assert beat.kv_used_bytes == 0
    assert sum(ended.num_preemptions for ended in ends) > 0


def refused(beat: WorkerBeat) -> dict[ModelName, str]:
    return {load.model: load.reason for load in beat.models if load.state == "failed"}


async def test_static_refuses_what_does_not_fit_and_copies_each_model_once(tiny_models: TinyModels) -> None:
    sources = three(tiny_models)
    memory_bytes = 2 * ONE_MODEL_BYTES + KV_BYTES
    config = tiny_models.config(sources, policy="static", device_memory_bytes=memory_bytes)
    async with running_worker(config, num_refused=1) as harness:
        beat = await harness.beat_where(lambda beat: bool(refused(beat)))
        await check(harness, tiny_models, sources[:2])
        copied = [switch.model for switch in harness.switches if switch.copied_bytes]
    assert list(refused(beat)) == [sources[2].name]
    assert "of 4 MiB 0 bytes are left: with worker.policy = static" in refused(beat)[ModelName(sources[2].name)]
    assert sorted(copied) == sorted(source.name for source in sources[:2])


async def test_dedicated_serves_the_model_of_its_place(tiny_models: TinyModels) -> None:
    sources = three(tiny_models)
    config = tiny_models.config(sources, policy="dedicated", id="worker-1")
    async with running_worker(config, num_refused=2) as harness:
        beat = await harness.beat_where(lambda beat: len(refused(beat)) == 2)
        await check(harness, tiny_models, [sources[1]])
    assert set(refused(beat)) == {sources[0].name, sources[2].name}
    assert all(f"serves '{sources[1].name}' alone" in reason for reason in refused(beat).values())
