"""What operators ask of a worker beside models: to take no new work, and to keep a model's weights on the device."""

import asyncio
from collections.abc import Callable

import pytest

from gpu_worker.host_cache.protocol import Census
from shared.ids import ModelName
from shared.messages import LoadModel, OrderRefused, OrderTaken, UnloadModel, WorkerBeat
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import TIMEOUT_S, Harness, running_worker

PROMPT = list(range(2, 20))
ONE_MODEL_BYTES = 2 << 20  # of the weight region
KV_BYTES = 4 << 20


def states(beat: WorkerBeat) -> dict[str, str]:
    return {load.model: load.state for load in beat.models}


async def test_a_drained_worker_says_so_and_finishes_what_it_has(tiny_models: TinyModels) -> None:
    llama = tiny_models.source("llama")
    config = tiny_models.config([llama])
    async with running_worker(config) as harness:
        running = await harness.submit(llama.name, PROMPT, 50)
        await harness.tokens(running, 1)
        await harness.serve([llama], drained=True)
        await harness.beat_where(lambda beat: beat.draining)
        assert (await harness.finish(running)).tokens == tiny_models.generate(llama, PROMPT, 50)
        await harness.serve([llama])
        await harness.beat_where(lambda beat: not beat.draining)


async def test_a_pinned_model_comes_while_nothing_runs_and_comes_back(tiny_models: TinyModels) -> None:
    """With memory for one: the other one's requests are served, and then it has its place again."""
    llama, gemma = sources = [tiny_models.source("llama"), tiny_models.source("gemma3")]
    config = tiny_models.config(sources, device_memory_bytes=ONE_MODEL_BYTES + KV_BYTES)
    async with running_worker(config) as harness:
        await harness.serve(sources, pinned=llama.name)
        await harness.beat_where(lambda beat: states(beat)[llama.name] == "resident")
        asked = [(gemma, PROMPT, 8), (llama, PROMPT, 8)]
        assert await harness.run_all(asked) == [tiny_models.generate(*each) for each in asked]
        await harness.run_all([(gemma, PROMPT, 8)])
        await harness.beat_where(lambda beat: states(beat)[llama.name] == "resident")
        await harness.serve(sources, pinned=gemma.name)
        await harness.beat_where(lambda beat: states(beat) == {llama.name: "cached", gemma.name: "resident"})


async def test_models_that_are_not_pinned_share_the_rest(tiny_models: TinyModels) -> None:
    sources = [tiny_models.source("llama"), tiny_models.source("gemma3"), tiny_models.source("llama", 1)]
    llama, gemma, other = sources
    config = tiny_models.config(sources, device_memory_bytes=2 * ONE_MODEL_BYTES + KV_BYTES)
    async with running_worker(config) as harness:
        await harness.serve(sources, pinned=llama.name)
        await harness.beat_where(lambda beat: states(beat)[llama.name] == "resident")
        asked = [(source, PROMPT, 16) for source in (gemma, other)] * 2
        assert await harness.run_all(asked) == [tiny_models.generate(*each) for each in asked]
        assert states(await harness.beats(2))[llama.name] == "resident"
        await harness.run_all([(llama, PROMPT, 4)])
        kinds = [switch.kind for switch in harness.switches if switch.model == llama.name]
        assert kinds == ["resident"]


@pytest.mark.parametrize("memory", [{"device_memory_bytes": ONE_MODEL_BYTES + KV_BYTES}, {}], ids=["region", "unified"])
async def test_models_are_unloaded_and_loaded_again(tiny_models: TinyModels, memory: dict[str, int]) -> None:
    """With a host model cache of its own, and on the device memory for one, where weights have a region."""
    llama, gemma = sources = [tiny_models.source("llama"), tiny_models.source("gemma3")]
    config = tiny_models.config(sources, host_memory_bytes=64 << 20, **memory)
    async with running_worker(config) as harness:
        store, loads = harness.service._store, [LoadModel, UnloadModel]
        load, unload = (lambda source, order=order: harness.order(order(ModelName(source.name))) for order in loads)
        expected = tiny_models.generate(llama, PROMPT, 40)
        running = await harness.submit(llama.name, PROMPT, 40)
        await harness.tokens(running, 1)
        assert isinstance(await unload(llama), OrderTaken)
        assert isinstance(await unload(gemma), OrderTaken)
        assert (await harness.finish(running)).tokens == expected
        census = await host_memory_where(harness, lambda num_used: num_used == 0)
        assert census.total_bytes == 64 << 20
        assert (ModelName(llama.name) in store, ModelName(gemma.name) in store) == (False, False)
        assert "resident" not in states(await harness.beats(2)).values()

        assert isinstance(await load(gemma), OrderTaken)
        await harness.beat_where(lambda beat: states(beat)[gemma.name] == "resident")
        assert await harness.run_all([(llama, PROMPT, 40)]) == [expected]  # by demand
        assert [switch.kind for switch in harness.switches if switch.model == llama.name][-1] == "from disk"

        await harness.serve(sources, pinned=llama.name)
        await harness.beats(2)
        refused = await unload(llama)
        assert isinstance(refused, OrderRefused) and "pinned" in refused.reason


async def host_memory_where(harness: Harness, condition: Callable[[int], bool]) -> Census:
    """What the owner of host memory says, once the condition is true of the bytes that it uses."""
    async with asyncio.timeout(TIMEOUT_S):
        while (census := harness.service._cache.census) is None or not condition(census.used_bytes):
            await harness.beats()
    return census
