"""Models come and go while a worker serves: by the catalogue in force, as its steward says it."""

import gc
from pathlib import Path

import pytest

from gpu_worker.execution.module import BoundModule
from shared import subjects
from shared.catalogue import described
from shared.config import ModelSource
from shared.errors import ErrorCode
from shared.ids import ModelName
from shared.memory_bus import MemoryBroker
from shared.messages import Catalogue, CatalogueModel, ModelLoad, WorkerBeat
from tests.integration.step_gate import gated_steps
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import STEWARD, Harness, running_worker

PROMPT = list(range(2, 42))
NUM_TOKENS = 24
REGION = {"device_memory_bytes": 8 << 20, "kv_memory_bytes": 4 << 20}  # two of the tiny models
UNIFIED: dict[str, int] = {}


def load_of(beat: WorkerBeat, source: ModelSource) -> ModelLoad | None:
    return next((load for load in beat.models if load.model == source.name), None)


async def is_served(harness: Harness, source: ModelSource) -> None:
    def served(beat: WorkerBeat) -> bool:
        load = load_of(beat, source)
        return load is not None and load.state in ("cached", "resident")

    await harness.beat_where(served)


async def is_gone(harness: Harness, source: ModelSource) -> None:
    await harness.beat_where(lambda beat: load_of(beat, source) is None)


@pytest.mark.parametrize("memory", [REGION, UNIFIED], ids=["region", "unified"])
async def test_a_model_comes_while_a_stream_runs(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch, memory: dict[str, int]
) -> None:
    first, second = tiny_models.source("llama"), tiny_models.source("gemma3")
    async with running_worker(tiny_models.config([first], **memory)) as harness:
        async with gated_steps(monkeypatch) as gate:
            request_id = await harness.submit(first.name, PROMPT, NUM_TOKENS)
            gate.let(3)
            await harness.tokens(request_id, 3)
            await harness.serve([first, second])
            await is_served(harness, second)  # though a step is under way all the time
            assert len(harness.streams[request_id].tokens) == 3
        assert (await harness.finish(request_id)).tokens == tiny_models.generate(first, PROMPT, NUM_TOKENS)
        assert await harness.run_all([(second, PROMPT, NUM_TOKENS)]) == [
            tiny_models.generate(second, PROMPT, NUM_TOKENS)
        ]


@pytest.mark.parametrize("memory", [REGION, UNIFIED], ids=["region", "unified"])
async def test_a_model_that_leaves_finishes_what_it_has(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch, memory: dict[str, int]
) -> None:
    first, second = tiny_models.source("llama"), tiny_models.source("gemma3")
    async with running_worker(tiny_models.config([first, second], **memory)) as harness:
        async with gated_steps(monkeypatch) as gate:
            request_id = await harness.submit(first.name, PROMPT, NUM_TOKENS)
            gate.let(3)
            await harness.tokens(request_id, 3)
            await harness.serve([second])
            beat = await harness.beat_where(lambda beat: "leaving" in [load.state for load in beat.models])
            assert {load.model: load.state for load in beat.models}[ModelName(first.name)] == "leaving"
            late = await harness.submit(first.name, PROMPT, NUM_TOKENS)
        ended = (await harness.finish(late)).ended
        assert ended is not None and ended.code == ErrorCode.UNAVAILABLE
        assert (await harness.finish(request_id)).tokens == tiny_models.generate(first, PROMPT, NUM_TOKENS)
        await is_gone(harness, first)
        assert await harness.run_all([(second, PROMPT, NUM_TOKENS)]) == [
            tiny_models.generate(second, PROMPT, NUM_TOKENS)
        ]


async def test_a_worker_that_starts_asks_what_is_served(tiny_models: TinyModels) -> None:
    configured, added = tiny_models.source("llama"), tiny_models.source("gemma3")
    config = tiny_models.config([configured])
    tiny_models.config([added])
    broker = MemoryBroker()
    steward = broker.connect("steward")
    await steward.start()
    in_force = Catalogue(STEWARD, 7, described([added]))
    await steward.subscribe(subjects.CATALOGUE_ASK, lambda message: in_force)
    async with running_worker(config, broker=broker) as harness:
        assert [load.model for load in (await harness.beats()).models] == [added.name]
        await harness.serve([configured])  # an older number of the same steward
        await harness.beats(2)
        assert harness.beat is not None and [load.model for load in harness.beat.models] == [added.name]
    await steward.close()


async def test_a_model_that_fails_says_why_and_others_are_well(tiny_models: TinyModels, tmp_path: Path) -> None:
    source, missing = tiny_models.source("llama"), tmp_path / "nowhere"
    async with running_worker(tiny_models.config([source])) as harness:
        bad = CatalogueModel(ModelName("bad"), str(missing), "0" * 32)
        await harness.bus.publish(subjects.CATALOGUE, Catalogue(STEWARD, 1, (*described([source]), bad)))
        beat = await harness.beat_where(lambda beat: "failed" in [load.state for load in beat.models])
        assert str(missing) in next(load.reason for load in beat.models if load.state == "failed")
        assert await harness.run_all([(source, PROMPT, 4)]) == [tiny_models.generate(source, PROMPT, 4)]
        await harness.bus.publish(subjects.CATALOGUE, Catalogue(STEWARD, 2, described([source])))
        await harness.beat_where(lambda beat: [load.model for load in beat.models] == [source.name])


async def test_another_content_under_a_name_replaces_the_first(tiny_models: TinyModels) -> None:
    first, second = tiny_models.source("llama"), tiny_models.source("llama", 1)
    tiny_models.config([second])
    async with running_worker(tiny_models.config([first])) as harness:
        await harness.run_all([(first, PROMPT, NUM_TOKENS)])
        await harness.serve([ModelSource(first.name, second.path)])
        await harness.beats(2)  # one of them is later than the message
        await is_served(harness, first)
        [tokens] = await harness.run_all([(first, PROMPT, NUM_TOKENS)])
        assert tokens == tiny_models.generate(second, PROMPT, NUM_TOKENS)
        assert tokens != tiny_models.generate(first, PROMPT, NUM_TOKENS)


# --- nothing stays ------------------------------------------------------------------------------


def sizes(harness: Harness) -> dict[str, object]:
    """Of all tables that have models, and of the memory that they take."""
    service = harness.service
    served, engine, store, memory = service._served, service._engine, service._store, service._memory
    gc.collect()
    service._cache._used.clear()  # told to the owner once a second
    rows = [row for row in harness.registry.render().decode().splitlines() if "host_cache" not in row]  # comes late
    found: dict[str, object] = {
        "modules": sum(type(thing) is BoundModule for thing in gc.get_objects()),
        "rows": sum("kind=" not in row for row in rows),
    }
    owners = [served, service._roster, store, memory.kv, memory.weights, memory.split, service._cache]
    owners += [memory.kv._swaps, memory.kv._classes]
    owners += [engine._loader, engine._fetcher, engine._departures, engine._metrics, engine._switches]
    for region in (memory.kv._on_device.blocks, memory.kv._in_host.blocks):
        owners += [region, region._pool]
    for owner in owners:
        for name in [*vars(owner)] if owner is not None else []:
            table = getattr(owner, name)
            if isinstance(table, dict | set | list):
                found[f"{type(owner).__name__}.{name}"] = len(table)
    arena = getattr(memory.weights, "_arena", None)
    found["arena"] = arena and arena.free_bytes
    return found


@pytest.mark.parametrize("memory", [REGION, UNIFIED], ids=["region", "unified"])
async def test_fifty_comings_and_goings_leave_nothing(tiny_models: TinyModels, memory: dict[str, int]) -> None:
    stays, comes = tiny_models.source("llama"), tiny_models.source("gemma3")
    tiny_models.config([comes])

    requests = [(source, PROMPT, 4) for source in (stays, comes)]
    expected = [tiny_models.generate(*request) for request in requests]

    async def come_and_go() -> None:
        await harness.serve([stays, comes])
        await is_served(harness, comes)
        assert await harness.run_all(requests) == expected
        await harness.serve([stays])
        await is_gone(harness, comes)

    async with running_worker(tiny_models.config([stays], **memory)) as harness:
        await come_and_go()
        before = sizes(harness)
        for _ in range(49):
            await come_and_go()
        assert sizes(harness) == before
        assert before["modules"] == before["ServedModels._begun"] == 1
        assert comes.name not in harness.registry.render().decode()
