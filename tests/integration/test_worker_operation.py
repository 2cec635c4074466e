"""What operators ask of a worker beside models: to take no new work, and to keep a model's weights on the device."""

from shared.messages import WorkerBeat
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import running_worker

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
