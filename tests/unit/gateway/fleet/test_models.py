import asyncio
from pathlib import Path

import pytest

from gateway.fleet.cluster import Cluster
from gateway.fleet.models import Models
from gateway.text.jobs import Spelled
from shared.catalogue import open_catalogue
from shared.config import Config
from shared.errors import ErrorCode, RequestError
from shared.ids import ModelName
from shared.messages import ModelLoad
from tests.unit.gateway.builders import beat
from tests.unit.gateway.tiny_models import import_model, spell_folder, write_source

NAME = ModelName("tiny")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(models=(write_source(tmp_path / "source", NAME),), cache_dir=tmp_path / "cache")


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(worker_dead_s=10.0)


@pytest.fixture
def warmed() -> "asyncio.Queue[Path]":
    return asyncio.Queue()


@pytest.fixture
def models(config: Config, cluster: Cluster, warmed: "asyncio.Queue[Path]") -> Models:
    return Models(open_catalogue(config), cluster, spell_folder, warmed.put)


def code_of(models: Models, name: ModelName = NAME) -> ErrorCode:
    with pytest.raises(RequestError) as caught:
        models.get(name)
    return caught.value.code


async def test_a_model_serves_once_it_is_imported(config: Config, models: Models) -> None:
    await models.load_new()
    assert code_of(models) is ErrorCode.UNAVAILABLE
    assert models.info(NAME).context_length is None
    import_model(config, NAME, context_length=64)
    await models.load_new()
    assert models.get(NAME).card.context_length == 64
    assert models.info(NAME).context_length == 64


async def test_an_import_is_noticed_and_warmed_up(
    config: Config, models: Models, warmed: "asyncio.Queue[Path]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.fleet.models.POLL_S", 0.0)
    async with models.running(), asyncio.timeout(10):
        import_model(config, NAME)
        assert await warmed.get() == open_catalogue(config)[NAME].folder
        assert models.get(NAME)


async def test_a_name_outside_the_catalogue(models: Models) -> None:
    assert code_of(models, ModelName("none")) is ErrorCode.MODEL_NOT_FOUND
    with pytest.raises(RequestError) as caught:
        models.get(ModelName("x" * 10_000))
    assert len(caught.value.message) < 200


async def test_a_failed_import_says_why(models: Models, cluster: Cluster) -> None:
    cluster.on_worker_beat(beat(models=(ModelLoad(NAME, "failed", reason="has a state space"),)), 0.0)
    with pytest.raises(RequestError, match=r"failed\. has a state space") as caught:
        models.get(NAME)
    assert caught.value.retry_after_s
    assert models.info(NAME).state == "failed"


@pytest.mark.parametrize("file", ["card.json", "tokenizer.json"])
async def test_a_damaged_model_is_left_alone(config: Config, models: Models, file: str) -> None:
    import_model(config, NAME)
    (open_catalogue(config)[NAME].folder / file).write_text("{")
    await models.load_new()
    await models.load_new()
    assert code_of(models) is ErrorCode.UNAVAILABLE


async def test_kv_memory_can_shorten_the_context(config: Config, models: Models, cluster: Cluster) -> None:
    import_model(config, NAME, context_length=64)
    await models.load_new()
    for fitting, expected in ((0, 64), (48, 48), (1000, 64)):
        cluster.on_worker_beat(beat(models=(ModelLoad(NAME, "cached", max_sequence_tokens=fitting),)), 0.0)
        assert models.context_length(models.get(NAME)) == expected


async def test_models_come_and_go_with_the_catalogue(tmp_path: Path, cluster: Cluster) -> None:
    sources = (write_source(tmp_path / "a", "a"), write_source(tmp_path / "b", "b"))
    config = Config(models=sources, cache_dir=tmp_path / "cache")
    catalogue = open_catalogue(config)
    a, b = catalogue
    gone: list[ModelName] = []
    warmed: asyncio.Queue[Path] = asyncio.Queue()
    models = Models({a: catalogue[a]}, cluster, spell_folder, warmed.put, gone.append)
    import_model(config, a)
    import_model(config, b)
    async with models.running(), asyncio.timeout(10):
        await warmed.get()
        assert code_of(models, b) is ErrorCode.MODEL_NOT_FOUND
        models.follow(catalogue)
        assert code_of(models, b) is ErrorCode.UNAVAILABLE
        assert await warmed.get() == catalogue[b].folder
        assert models.ready() == (a, b)
        models.follow({b: catalogue[b]})
        assert code_of(models, a) is ErrorCode.MODEL_NOT_FOUND
        assert gone == [a]
        models.follow({b: catalogue[a]})  # another content: not that of before
        assert code_of(models, b) is ErrorCode.UNAVAILABLE
        await models.load_new()
        assert models.get(b).folder == catalogue[a].folder


async def test_a_model_that_is_being_read_is_read_once_when_another_one_comes(config: Config, cluster: Cluster) -> None:
    import_model(config, NAME)
    reading, may_go_on, num_read = asyncio.Event(), asyncio.Event(), 0

    async def spell_later(folder: Path) -> Spelled:
        nonlocal num_read
        num_read += 1
        reading.set()
        await may_go_on.wait()
        return await spell_folder(folder)

    warmed: asyncio.Queue[Path] = asyncio.Queue()
    models = Models(open_catalogue(config), cluster, spell_later, warmed.put)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(models.load_new())
        await reading.wait()
        models.follow(open_catalogue(config))
        may_go_on.set()
    assert models.get(NAME)
    assert num_read == 1
