"""Whole workers on one host model cache: no token depends on who takes whose memory, or on its owner's life."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from gpu_worker.host_cache.client import HostCacheClient
from gpu_worker.host_cache.policy import whole_pages
from gpu_worker.host_cache.protocol import BlobSpec
from shared.config import Config, ModelSource
from tests.integration.host_cache_harness import held_memfds, owner_process
from tests.integration.step_gate import gated_steps
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import Harness, running_worker

PROMPT = list(range(2, 30))
NUM_TOKENS = 24


def some_models(
    tiny_models: TinyModels, socket: Path, num: int = 2, **settings: object
) -> tuple[list[ModelSource], Config, int]:
    """Their sources, the configuration of a worker (memory is unified), and the memory that one of them takes."""
    sources = [tiny_models.source("llama", seed) for seed in range(num)]
    config = tiny_models.config(sources, host_cache_socket=str(socket), turn_steps=2, **settings)
    return sources, config, whole_pages(tiny_models.weights_file(sources[0]).stat().st_size)


async def check(harness: Harness, tiny_models: TinyModels, sources: list[ModelSource]) -> None:
    """Two requests of each model at the same time."""
    outputs = await harness.run_all([(source, PROMPT, NUM_TOKENS) for source in sources * 2])
    assert outputs == [tiny_models.generate(source, PROMPT, NUM_TOKENS) for source in sources * 2]


async def test_two_workers_take_turns_with_room_for_one_model(tiny_models: TinyModels, tmp_path: Path) -> None:
    sources, config, one_model = some_models(tiny_models, tmp_path / "socket")
    async with (
        owner_process(tmp_path / "socket", one_model) as owner,
        running_worker(config) as first,
        running_worker(config) as second,
    ):
        await asyncio.gather(check(first, tiny_models, sources), check(second, tiny_models, sources[::-1]))
        assert [num_bytes for _, num_bytes in held_memfds(owner.pid)] == [one_model]
        assert "from disk" in {switch.kind for harness in (first, second) for switch in harness.switches}


@pytest.mark.parametrize(
    ("device_memory_bytes", "policy"), [(0, "round-robin"), (16 << 20, "round-robin"), (0, "aegaeon"), (0, "request")]
)
async def test_three_models_with_host_memory_for_one(
    tiny_models: TinyModels, tmp_path: Path, device_memory_bytes: int, policy: str
) -> None:
    """Two workers, unified or with a place on the device as well; each fetched model gets its turn."""
    settings = {"device_memory_bytes": device_memory_bytes, "kv_memory_bytes": 4 << 20, "policy": policy}
    sources, config, one_model = some_models(tiny_models, tmp_path / "socket", 3, **settings)
    async with (
        owner_process(tmp_path / "socket", one_model),
        running_worker(config) as first,
        running_worker(config) as second,
    ):
        await asyncio.gather(check(first, tiny_models, sources), check(second, tiny_models, sources[::-1]))
        switches = [switch for harness in (first, second) for switch in harness.switches]
    fetched = [switch for switch in switches if switch.kind == "from disk"]
    assert len(fetched) >= 4  # of three models each worker found one at most
    assert all(switch.copied_bytes > 0 for switch in fetched)


async def test_a_model_runs_on_while_another_is_read(
    tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one's blob does not come before the first one's request has ended."""
    sources, config, one_model = some_models(tiny_models, tmp_path / "socket")
    may_come = asyncio.Event()
    original = HostCacheClient.acquire

    async def acquire(client: HostCacheClient, blob: BlobSpec, *, preload: bool, **rest: Any) -> Tensor | None:
        if not preload:
            await may_come.wait()
        return await original(client, blob, preload=preload, **rest)

    monkeypatch.setattr(HostCacheClient, "acquire", acquire)
    async with owner_process(tmp_path / "socket", one_model), running_worker(config) as harness:
        there, missing = sources
        waiting = await harness.submit(missing.name, PROMPT, NUM_TOKENS)
        running = await harness.finish(await harness.submit(there.name, PROMPT, NUM_TOKENS))
        assert running.tokens == tiny_models.generate(there, PROMPT, NUM_TOKENS)
        assert harness.streams[waiting].tokens == []
        progress = {load.model: load.progress for load in (await harness.beats()).models}
        assert progress == {there.name: None, missing.name: 0.0}
        may_come.set()
        assert (await harness.finish(waiting)).tokens == tiny_models.generate(missing, PROMPT, NUM_TOKENS)
        assert [switch.kind for switch in harness.switches] == ["resident", "from disk"]


async def test_requests_outlive_the_owner(
    tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed in a step with the other model still to be read, and started again."""
    sources, config, one_model = some_models(tiny_models, tmp_path / "socket")
    async with owner_process(tmp_path / "socket", one_model) as owner, running_worker(config) as harness:
        async with gated_steps(monkeypatch) as gate:
            checking = asyncio.create_task(check(harness, tiny_models, sources))
            await gate.arrival()
            owner.kill()
            await owner.wait()
        async with owner_process(tmp_path / "socket", one_model):
            await checking
